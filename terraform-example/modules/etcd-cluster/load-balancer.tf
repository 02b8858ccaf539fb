# Clients reach the members that serve linearizable reads. The load balancer asks the agent (/readyz); etcd's own
# /health is 503 on every member under any alarm.

resource "aws_security_group" "load_balancer" {
  count = var.load_balancer ? 1 : 0

  name_prefix = "${var.name}-etcd-lb-"
  description = "In front of the etcd cluster ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-etcd-lb" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  for_each = toset(var.load_balancer ? var.client_cidr_blocks : [])

  security_group_id = aws_security_group.load_balancer[0].id
  cidr_ipv4         = each.value
  description       = "etcd's clients"
  ip_protocol       = "tcp"
  from_port         = local.client_port
  to_port           = local.client_port
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  for_each = var.load_balancer ? { client = local.client_port, agent = local.agent_port } : {}

  security_group_id            = aws_security_group.load_balancer[0].id
  referenced_security_group_id = aws_security_group.members.id
  description                  = "to the members: ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "from_load_balancer" {
  for_each = var.load_balancer ? { client = local.client_port, agent = local.agent_port } : {}

  security_group_id            = aws_security_group.members.id
  referenced_security_group_id = aws_security_group.load_balancer[0].id
  description                  = "from the load balancer: ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_lb" "this" {
  count = var.load_balancer ? 1 : 0

  name                             = "${var.name}-etcd"
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = [for zone in local.zones : var.subnets[zone]]
  security_groups                  = aws_security_group.load_balancer[*].id
  enable_cross_zone_load_balancing = true
  tags                             = var.tags
}

resource "aws_lb_target_group" "this" {
  count = var.load_balancer ? 1 : 0

  name                   = "${var.name}-etcd"
  vpc_id                 = var.vpc_id
  protocol               = "TCP"
  port                   = local.client_port
  deregistration_delay   = 30
  connection_termination = true # watchers of a member that went must look for another one
  tags                   = var.tags

  health_check {
    protocol            = "HTTP"
    port                = local.agent_port
    path                = "/readyz"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "this" {
  count = var.load_balancer ? 1 : 0

  load_balancer_arn = aws_lb.this[0].arn
  protocol          = "TCP"
  port              = local.client_port
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[0].arn
  }
}

data "aws_route53_zone" "this" {
  count = var.zone_id == "" ? 0 : 1

  zone_id = var.zone_id
}

resource "aws_route53_record" "this" {
  count = var.load_balancer && var.zone_id != "" ? 1 : 0

  zone_id = var.zone_id
  name    = "${var.name}.${trimsuffix(data.aws_route53_zone.this[0].name, ".")}"
  type    = "A"

  alias {
    name                   = aws_lb.this[0].dns_name
    zone_id                = aws_lb.this[0].zone_id
    evaluate_target_health = true
  }
}
