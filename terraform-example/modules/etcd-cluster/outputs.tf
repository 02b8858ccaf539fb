locals {
  host     = try(aws_route53_record.this[0].name, aws_lb.this[0].dns_name, null)
  endpoint = local.host == null ? null : "${var.tls == "off" ? "http" : "https"}://${local.host}:${local.client_port}"
}

output "endpoint" {
  description = "Where clients connect; null without a load balancer."
  value       = local.endpoint
}

output "etcdctl" {
  description = "Paste it into a client's shell."
  value = local.endpoint == null ? join(" ", [
    "aws ec2 describe-instances --filters Name=tag:etcd-cluster,Values=${var.name} Name=instance-state-name,Values=running",
    "--query 'Reservations[].Instances[].PrivateIpAddress' --output text # without a load balancer: each on port ${local.client_port}",
  ]) : "export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=${local.endpoint} && etcdctl endpoint status --write-out=table"
}

output "bucket" {
  description = "Generations and snapshots."
  value       = aws_s3_bucket.this.id
}

output "kms_key_arn" {
  description = "The key that the bucket is encrypted with."
  value       = local.kms_key_arn
}

output "groups" {
  description = "The Auto Scaling groups."
  value       = [for group in aws_autoscaling_group.this : group.name]
}

output "role" {
  description = "The instances' role."
  value       = aws_iam_role.this.name
}

output "security_group_id" {
  description = "The members' security group."
  value       = aws_security_group.members.id
}

output "config_toml" {
  description = "The agent's settings on every instance: for `etcd-asg-agent --config` on an operator's machine, too."
  value       = local.config_toml
}
