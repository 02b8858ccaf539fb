locals {
  zones = sort(keys(var.subnets))

  # One group over all zones, or one a zone with its share of the members, larger shares first.
  groups = var.one_group_per_zone ? {
    for index, zone in local.zones : "${var.name}-${zone}" => {
      subnets = [var.subnets[zone]]
      size    = floor(var.size / length(local.zones)) + (index < var.size % length(local.zones) ? 1 : 0)
    }
    } : {
    (var.name) = { subnets = [for zone in local.zones : var.subnets[zone]], size = var.size }
  }

  hooks = {
    launching   = { transition = "autoscaling:EC2_INSTANCE_LAUNCHING", timeout = var.launch_timeout_s, result = "ABANDON" }
    terminating = { transition = "autoscaling:EC2_INSTANCE_TERMINATING", timeout = var.leave_timeout_s, result = "CONTINUE" }
  }

  group_hooks = {
    for pair in setproduct(keys(local.groups), keys(local.hooks)) : "${pair[0]} ${pair[1]}" => { group = pair[0], hook = pair[1] }
  }

  config_toml = templatefile("${path.module}/config.toml.tftpl", {
    name        = var.name
    bucket      = local.bucket_name
    prefix      = var.prefix
    kms_key_arn = local.kms_key_arn
    tls         = var.tls
    names       = local.host == null ? "" : lower(local.host)
    settings    = var.settings
  })

  user_data = templatefile("${path.module}/user-data.sh.tftpl", {
    config_toml = local.config_toml
    data_volume = var.data_volume.device
  })
}

resource "aws_launch_template" "this" {
  name_prefix            = "${var.name}-etcd-"
  image_id               = var.image_id
  instance_type          = var.instance_type
  ebs_optimized          = true
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.members.id]
  user_data              = base64encode(local.user_data)
  tags                   = var.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  # IMDSv2 only, and not from containers: whoever reads the metadata has the role's credentials.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 10
      encrypted             = true
      delete_on_termination = true
    }
  }

  # User data tells the image its name; the image formats it only when it is blank, and mounts it at etcd's data_root.
  block_device_mappings {
    device_name = var.data_volume.device

    ebs {
      volume_type           = "gp3"
      volume_size           = var.data_volume.size_gib
      iops                  = var.data_volume.iops
      throughput            = var.data_volume.throughput
      encrypted             = true
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume"])
    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = "${var.name}-etcd", etcd-cluster = var.name })
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_autoscaling_group" "this" {
  for_each = local.groups

  name                      = each.key
  min_size                  = 0 # scaling to nothing and back is a way to stop: the last one leaves its log in the bucket
  max_size                  = each.value.size + 1
  desired_capacity          = each.value.size
  vpc_zone_identifier       = each.value.subnets
  wait_for_capacity_timeout = var.wait_for_capacity_timeout
  target_group_arns         = aws_lb_target_group.this[*].arn
  enabled_metrics           = ["GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances", "GroupTerminatingInstances"]

  # EC2's checks only. /readyz decides who gets clients, never who lives: a cluster without a quorum has nobody that is
  # ready, and terminating all of them would make a loss of data out of an outage.
  health_check_type = "EC2"

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  # Launch first, terminate then, one at a time. The launching hook holds each newcomer until it is in sync, so that a
  # refresh cannot outrun the quorum.
  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 100 + ceil(100 / max(each.value.size, 1))
  }

  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage       = 100
      max_healthy_percentage       = 100 + ceil(100 / max(each.value.size, 1))
      instance_warmup              = 0
      skip_matching                = true
      scale_in_protected_instances = "Wait"
      standby_instances            = "Wait"
    }
  }

  # There before the first instance is. From then on aws_autoscaling_lifecycle_hook keeps them as they should be.
  dynamic "initial_lifecycle_hook" {
    for_each = local.hooks
    content {
      name                 = initial_lifecycle_hook.key
      lifecycle_transition = initial_lifecycle_hook.value.transition
      heartbeat_timeout    = initial_lifecycle_hook.value.timeout
      default_result       = initial_lifecycle_hook.value.result
    }
  }

  dynamic "tag" {
    for_each = merge(var.tags, { Name = "${var.name}-etcd", etcd-cluster = var.name })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  # An instance that comes up before these are there finds a bucket that it must refuse, or a role that allows nothing.
  depends_on = [
    aws_iam_role_policy.agent,
    aws_s3_bucket_lifecycle_configuration.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
    aws_vpc_security_group_egress_rule.members,
    aws_vpc_security_group_ingress_rule.members,
  ]
}

resource "aws_autoscaling_lifecycle_hook" "this" {
  for_each = local.group_hooks

  name                   = each.value.hook
  autoscaling_group_name = aws_autoscaling_group.this[each.value.group].name
  lifecycle_transition   = local.hooks[each.value.hook].transition
  heartbeat_timeout      = local.hooks[each.value.hook].timeout
  default_result         = local.hooks[each.value.hook].result
}
