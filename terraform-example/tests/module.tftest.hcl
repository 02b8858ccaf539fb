# What the module promises, without AWS: `terraform test` with every resource made up.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }

  mock_data "aws_route53_zone" {
    defaults = { name = "example.internal." }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/prod-etcd-1" }
  }

  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/prod-etcd-1" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::prod-etcd-123456789012", id = "prod-etcd-123456789012" }
  }

  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }

  mock_resource "aws_lb" {
    defaults = {
      arn        = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/prod-etcd/0123456789abcdef"
      arn_suffix = "net/prod-etcd/0123456789abcdef"
      dns_name   = "prod-etcd-0123.elb.eu-west-1.amazonaws.com"
    }
  }

  mock_resource "aws_lb_target_group" {
    defaults = {
      arn        = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/prod-etcd/0123456789abcdef"
      arn_suffix = "targetgroup/prod-etcd/0123456789abcdef"
    }
  }
}

variables {
  name               = "prod"
  vpc_id             = "vpc-0123456789abcdef0"
  image_id           = "ami-0123456789abcdef0"
  client_cidr_blocks = ["10.0.0.0/16"]
  subnets = {
    eu-west-1a = "subnet-0000000000000000a"
    eu-west-1b = "subnet-0000000000000000b"
    eu-west-1c = "subnet-0000000000000000c"
  }
}

run "instances" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "IMDSv2 must be required, and not be reachable from containers"
  }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].instance_metadata_tags == "enabled"
    error_message = "instance metadata tags must be enabled"
  }

  assert {
    condition     = alltrue([for each in aws_launch_template.this.block_device_mappings : tobool(each.ebs[0].encrypted)])
    error_message = "every volume must be encrypted"
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.this.user_data), "bucket = \"prod-etcd-123456789012\"")
    error_message = "user data must write the bucket into config.toml"
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.this.user_data), "echo 'DEVICE=/dev/xvdb' >/etc/etcd-asg-agent/data-volume") && contains([for each in aws_launch_template.this.block_device_mappings : each.device_name], "/dev/xvdb")
    error_message = "user data must name the volume that is attached"
  }
}

run "tls" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    tls = "ca"
  }

  assert {
    condition     = length(aws_iam_role_policy.authority) == 1 && strcontains(aws_iam_role_policy.authority[0].policy, "parameter/etcd-asg-agent/prod/000001/authority")
    error_message = "the role must be allowed to make the first authority"
  }

  assert {
    condition     = strcontains(output.config_toml, "mode = \"ca\"") && startswith(output.endpoint, "https://")
    error_message = "the agents must issue their own certificates, and clients must speak TLS"
  }
}

run "group" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  assert {
    condition     = length(aws_autoscaling_group.this) == 1 && aws_autoscaling_group.this["prod"].desired_capacity == 3
    error_message = "one group of three over all zones"
  }

  assert {
    condition     = aws_autoscaling_group.this["prod"].health_check_type == "EC2"
    error_message = "readiness must never decide who is terminated"
  }

  assert {
    condition     = toset([for each in aws_autoscaling_group.this["prod"].initial_lifecycle_hook : each.lifecycle_transition]) == toset(["autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"])
    error_message = "both hooks must be there before the first instance"
  }

  assert {
    condition     = aws_autoscaling_group.this["prod"].instance_maintenance_policy[0].min_healthy_percentage == 100 && floor(aws_autoscaling_group.this["prod"].instance_maintenance_policy[0].max_healthy_percentage * 3 / 100) == 4
    error_message = "launch one before terminating one"
  }

  assert {
    condition     = one([for each in aws_autoscaling_group.this["prod"].tag : each.value if each.key == "etcd-cluster"]) == "prod"
    error_message = "the group must carry the tag by which instances and groups are found"
  }
}

run "one_group_per_zone" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    one_group_per_zone = true
    size               = 5
  }

  assert {
    condition     = [for zone in ["a", "b", "c"] : aws_autoscaling_group.this["prod-eu-west-1${zone}"].desired_capacity] == [2, 2, 1]
    error_message = "five over three zones are 2, 2, 1"
  }

  assert {
    condition     = length(aws_autoscaling_lifecycle_hook.this) == 6
    error_message = "two hooks a group"
  }
}

run "bucket" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "versions must be kept"
  }

  assert {
    condition     = one([for each in aws_s3_bucket_server_side_encryption_configuration.this.rule : each.apply_server_side_encryption_by_default[0].sse_algorithm]) == "aws:kms"
    error_message = "the bucket must be encrypted with KMS"
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    error_message = "nothing may be public"
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : alltrue([for each in rule.filter : startswith(each.prefix, "etcd/prod/") && !startswith("etcd/prod/generations/", each.prefix)])])
    error_message = "no lifecycle rule may touch generations/"
  }

  assert {
    condition     = toset([for each in data.aws_iam_policy_document.bucket.statement : each.sid]) == toset(["EncryptedConnectionsOnly", "WhatDecidesIsWrittenOnce", "WhatDecidesStays"])
    error_message = "TLS only, written once, undeletable"
  }

  assert {
    condition     = alltrue([for each in data.aws_iam_policy_document.bucket.statement : each.effect == "Deny"])
    error_message = "the bucket's policy grants nothing"
  }
}

run "role" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  assert {
    condition     = one([for each in jsondecode(aws_iam_role_policy.agent.policy).Statement : each.Condition if each.Sid == "WriteOnce"]).Null["s3:if-none-match"] == "false"
    error_message = "the role may write what decides only once"
  }

  assert {
    condition     = length(aws_iam_role_policy_attachment.more) == 0
    error_message = "the agent needs no other policy"
  }
}

run "clients" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    zone_id = "Z0123456789"
  }

  assert {
    condition     = aws_lb.this[0].internal && aws_lb_target_group.this[0].health_check[0].path == "/readyz"
    error_message = "an internal load balancer that asks /readyz"
  }

  assert {
    condition     = aws_route53_record.this[0].name == "prod.example.internal" && output.endpoint == "http://prod.example.internal:2379"
    error_message = "clients get a name"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.load_balancer["no-quorum"].threshold == 2
    error_message = "two of three are a quorum"
  }
}

run "without_a_load_balancer" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    load_balancer = false
  }

  assert {
    condition     = length(aws_lb.this) == 0 && output.endpoint == null && length(aws_cloudwatch_metric_alarm.load_balancer) == 0
    error_message = "nothing of it may be left"
  }

  assert {
    condition     = strcontains(output.etcdctl, "describe-instances")
    error_message = "a client must still be told how to find the members"
  }
}

run "an_even_size_is_refused" {
  command = plan

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    size = 4
  }

  expect_failures = [var.size]
}

run "another_name_of_the_data_volume" {
  command = apply

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    data_volume         = { device = "/dev/sdf", size_gib = 50 }
    metrics_cidr_blocks = ["10.1.0.0/16"]
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.this.user_data), "echo 'DEVICE=/dev/sdf' >") && one([for each in aws_launch_template.this.block_device_mappings : each.ebs[0].volume_size if each.device_name == "/dev/sdf"]) == 50
    error_message = "the volume must be attached by the name that the image is told"
  }

  assert {
    condition     = toset([for each in aws_vpc_security_group_ingress_rule.metrics : each.from_port]) == toset([9379, 2381, 9100])
    error_message = "Prometheus reads the agent, etcd and the machine"
  }
}

run "the_root_disk_is_no_data_volume" {
  command = plan

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    data_volume = { device = "/dev/xvda" }
  }

  expect_failures = [var.data_volume]
}

run "a_name_that_is_too_long_is_refused" {
  command = plan

  module {
    source = "./modules/etcd-cluster"
  }

  variables {
    name = "a-name-that-no-load-balancer-may-have"
  }

  expect_failures = [var.name]
}

run "the_example" {
  command = apply

  assert {
    condition     = strcontains(output.config_toml, "name = \"prod\"")
    error_message = "the example must hand over what clients and operators need"
  }
}
