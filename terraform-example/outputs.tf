output "etcdctl" {
  description = "Paste it into a client's shell."
  value       = module.etcd.etcdctl
}

output "endpoint" {
  description = "Where clients connect; null without a load balancer."
  value       = module.etcd.endpoint
}

output "bucket" {
  description = "Generations and snapshots."
  value       = module.etcd.bucket
}

output "groups" {
  description = "The Auto Scaling groups."
  value       = module.etcd.groups
}

output "role" {
  description = "The instances' role."
  value       = module.etcd.role
}

output "security_group_id" {
  description = "The members' security group."
  value       = module.etcd.security_group_id
}

output "config_toml" {
  description = "The agent's settings on every instance: for `etcd-asg-agent --config` on an operator's machine, too."
  value       = module.etcd.config_toml
}
