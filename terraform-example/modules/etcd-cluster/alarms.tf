# What CloudWatch can see by itself. The agent's own metrics (/metrics, for Prometheus) say more, and earlier: the rules in
# docs/alerts.yaml have these four under the same names, with the same patience (a test keeps them equal), and more.

locals {
  quorum = floor(var.size / 2) + 1

  load_balancer_alarms = var.load_balancer ? {
    no-quorum = {
      description = "Fewer members serve than a quorum: the cluster takes no writes. See docs/operate.md#etcdnoquorum"
      below       = local.quorum
      minutes     = 2
    }
    member-missing = {
      description = "A member has not served for a quarter of an hour: nobody replaced it. See docs/operate.md#etcdmembermissing"
      below       = var.size
      minutes     = 15
    }
  } : {}

  group_alarms = {
    for pair in setproduct(keys(local.groups), keys(local.stuck)) : "${pair[0]} ${pair[1]}" => { group = pair[0], alarm = pair[1] }
  }

  stuck = {
    cannot-join = {
      description = "An instance has waited half an hour to be let in: etcd-asg-agent plan on it says why. See docs/operate.md#etcdinstancecannotjoin"
      metric      = "GroupPendingInstances"
      minutes     = 30
    }
    cannot-leave = {
      description = "An instance has been leaving for half an hour: etcd-asg-agent plan on it says what depends on it. See docs/operate.md#etcdinstancecannotleave"
      metric      = "GroupTerminatingInstances"
      minutes     = 30
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "load_balancer" {
  for_each = local.load_balancer_alarms

  alarm_name          = "${var.name}-etcd-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  statistic           = "Maximum"
  comparison_operator = "LessThanThreshold"
  threshold           = each.value.below
  period              = 60
  evaluation_periods  = each.value.minutes
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags

  dimensions = {
    LoadBalancer = aws_lb.this[0].arn_suffix
    TargetGroup  = aws_lb_target_group.this[0].arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "group" {
  for_each = local.group_alarms

  alarm_name          = "${each.value.group}-etcd-${each.value.alarm}"
  alarm_description   = local.stuck[each.value.alarm].description
  namespace           = "AWS/AutoScaling"
  metric_name         = local.stuck[each.value.alarm].metric
  statistic           = "Minimum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = local.stuck[each.value.alarm].minutes
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
  dimensions          = { AutoScalingGroupName = aws_autoscaling_group.this[each.value.group].name }
}
