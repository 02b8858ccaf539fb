# An example: one etcd cluster in a VPC that is there already.
#
#   terraform init
#   terraform apply -var vpc_id=vpc-0abc -var 'subnets={"eu-west-1a"="subnet-0a","eu-west-1b"="subnet-0b","eu-west-1c"="subnet-0c"}' \
#     -var image_id=ami-0abc -var 'client_cidr_blocks=["10.0.0.0/16"]'
#
# `apply` returns when every member serves: the launching hook lets nobody in before.

provider "aws" {
  region = var.region

  # Only for an emulator: nothing of these is set on AWS.
  skip_credentials_validation = var.aws_endpoint != ""
  skip_metadata_api_check     = var.aws_endpoint != ""
  skip_requesting_account_id  = var.aws_endpoint != ""
  s3_use_path_style           = var.aws_endpoint != ""

  dynamic "endpoints" {
    for_each = var.aws_endpoint == "" ? [] : [var.aws_endpoint]
    content {
      autoscaling = endpoints.value
      cloudwatch  = endpoints.value
      ec2         = endpoints.value
      elbv2       = endpoints.value
      iam         = endpoints.value
      kms         = endpoints.value
      route53     = endpoints.value
      s3          = endpoints.value
      sts         = endpoints.value
    }
  }
}

module "etcd" {
  source = "./modules/etcd-cluster"

  name               = var.name
  vpc_id             = var.vpc_id
  subnets            = var.subnets
  image_id           = var.image_id
  size               = var.size
  one_group_per_zone = var.one_group_per_zone
  load_balancer      = var.load_balancer
  zone_id            = var.zone_id
  tls                = var.tls
  client_cidr_blocks = var.client_cidr_blocks
  alarm_topic_arns   = var.alarm_topic_arns
  force_destroy      = var.force_destroy
}
