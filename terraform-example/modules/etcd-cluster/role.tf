# The instances' role. Its policy is what `etcd-asg-agent iam-policy` prints for config.toml: the template is rendered
# from the same table in the agent, and a test keeps the two equal.

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.${data.aws_partition.this.dns_suffix}"]
    }
  }
}

resource "aws_iam_role" "this" {
  name_prefix        = "${var.name}-etcd-"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "agent" {
  name = "etcd-asg-agent"
  role = aws_iam_role.this.id

  policy = templatefile("${path.module}/iam-policy.json.tftpl", {
    partition   = data.aws_partition.this.partition
    dns_suffix  = data.aws_partition.this.dns_suffix
    bucket      = local.bucket_name
    root        = local.root
    cluster     = var.name
    kms_key_arn = local.kms_key_arn
  })
}

resource "aws_iam_role_policy" "authority" {
  count = var.tls == "ca" ? 1 : 0

  name = "certificate-authority"
  role = aws_iam_role.this.name

  policy = templatefile("${path.module}/iam-policy-authority.json.tftpl", {
    partition = data.aws_partition.this.partition
    cluster   = var.name
  })
}

resource "aws_iam_role_policy_attachment" "more" {
  for_each = var.policy_arns

  role       = aws_iam_role.this.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "this" {
  name_prefix = "${var.name}-etcd-"
  role        = aws_iam_role.this.name
  tags        = var.tags
}
