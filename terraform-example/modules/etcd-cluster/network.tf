locals {
  client_port = 2379
  peer_port   = 2380
  etcd_metric = 2381
  agent_port  = 9379
  node_metric = 9100
}

resource "aws_security_group" "members" {
  name_prefix = "${var.name}-etcd-"
  description = "Members of the etcd cluster ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-etcd" })

  lifecycle {
    create_before_destroy = true
  }
}

# Members ask one another on both of etcd's ports, and agents read one another's status.
resource "aws_vpc_security_group_ingress_rule" "members" {
  for_each = { client = local.client_port, peer = local.peer_port, agent = local.agent_port }

  security_group_id            = aws_security_group.members.id
  referenced_security_group_id = aws_security_group.members.id
  description                  = "members among themselves: ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_cidr_blocks)

  security_group_id = aws_security_group.members.id
  cidr_ipv4         = each.value
  description       = "etcd's clients"
  ip_protocol       = "tcp"
  from_port         = local.client_port
  to_port           = local.client_port
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each = {
    for pair in setproduct(var.metrics_cidr_blocks, [local.agent_port, local.etcd_metric, local.node_metric]) : "${pair[0]} ${pair[1]}" => pair
  }

  security_group_id = aws_security_group.members.id
  cidr_ipv4         = each.value[0]
  description       = "metrics"
  ip_protocol       = "tcp"
  from_port         = each.value[1]
  to_port           = each.value[1]
}

resource "aws_vpc_security_group_egress_rule" "members" {
  security_group_id = aws_security_group.members.id
  cidr_ipv4         = "0.0.0.0/0"
  description       = "AWS's endpoints, and answers"
  ip_protocol       = "-1"
}
