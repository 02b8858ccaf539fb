# The image: a Debian 12 with etcd and the agent in it, for amd64 and arm64.
#
#   make packages PACKAGES='--target debian12'
#   packer init packer
#   packer build -var region=eu-west-1 -var 'ssh_from=["203.0.113.7/32"]' packer
#
# Nothing secret goes in, and no cluster is named: an instance gets both from its role and its user data.

variable "region" {
  description = "Where the image is made."
  type        = string
  default     = "eu-west-1"
}

variable "subnet_id" {
  description = "Where the machine runs on which it is made; it must reach Debian's mirrors and GitHub. Empty: the default VPC."
  type        = string
  default     = ""
}

variable "ssh_from" {
  description = "Who may reach that machine's SSH port while it runs: your own address."
  type        = list(string)
}

variable "base_image_version" {
  description = "Which of Debian's images it is made of: the end of its name, such as 20250520-2118. *: the newest one."
  type        = string
  default     = "*"
}

variable "kms_key_id" {
  description = "The KMS key that the image is encrypted with. Empty: the account's own for EBS."
  type        = string
  default     = ""
}

variable "packages" {
  description = "Where `make packages` put the agent's packages."
  type        = string
  default     = "dist/packages"
}

variable "etcd" {
  description = "Arguments of provision about etcd, such as --etcd 3.6.1 --sha256 …; none: the release that install-etcd pins."
  type        = string
  default     = ""
}

locals {
  at = regex_replace(timestamp(), "[- TZ:]", "")

  # Debian's own account, from which its images come (wiki.debian.org/Cloud/AmazonEC2Image)
  debian = "136693071363"

  uploaded = "/tmp/etcd-image"
}

source "amazon-ebs" "debian" {
  region                                = var.region
  subnet_id                             = var.subnet_id
  associate_public_ip_address           = true
  ssh_username                          = "admin"
  ssh_clear_authorized_keys             = true
  temporary_security_group_source_cidrs = var.ssh_from

  # The machine that it is made on, and the image itself: IMDSv2 only.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  ena_support  = true
  encrypt_boot = true
  kms_key_id   = var.kms_key_id

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = 8
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
  }
}

build {
  source "amazon-ebs.debian" {
    name            = "amd64"
    instance_type   = "t3.small"
    ami_name        = "etcd-asg-agent-debian12-amd64-${local.at}"
    ami_description = "etcd and etcd-asg-agent on Debian 12"
    tags            = { Name = "etcd-asg-agent", base = "{{ .SourceAMIName }}", architecture = "amd64" }

    source_ami_filter {
      owners      = [local.debian]
      most_recent = true
      filters = {
        name                = "debian-12-amd64-${var.base_image_version}"
        architecture        = "x86_64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
    }
  }

  source "amazon-ebs.debian" {
    name            = "arm64"
    instance_type   = "t4g.small"
    ami_name        = "etcd-asg-agent-debian12-arm64-${local.at}"
    ami_description = "etcd and etcd-asg-agent on Debian 12"
    tags            = { Name = "etcd-asg-agent", base = "{{ .SourceAMIName }}", architecture = "arm64" }

    source_ami_filter {
      owners      = [local.debian]
      most_recent = true
      filters = {
        name                = "debian-12-arm64-${var.base_image_version}"
        architecture        = "arm64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
    }
  }

  provisioner "shell" {
    inline = ["mkdir ${local.uploaded}", "! command -v cloud-init >/dev/null || cloud-init status --wait"]
  }

  provisioner "file" {
    source      = "${path.root}/image/"
    destination = local.uploaded
  }

  provisioner "file" {
    sources     = concat(["${path.root}/install-etcd"], [for each in fileset(var.packages, "*~debian12_*.deb") : "${var.packages}/${each}"])
    destination = "${local.uploaded}/"
  }

  # Installs everything, removes what is this machine's own, and checks what has come of it: the build fails if that does.
  provisioner "shell" {
    inline = ["sudo bash ${local.uploaded}/provision --packages ${local.uploaded} ${var.etcd}"]
  }

  # What is in the image, to keep: two images with the same lines are the same.
  provisioner "shell" {
    inline = ["sudo python3 -IS ${local.uploaded}/manifest.py > ${local.uploaded}.manifest", "sudo rm -rf ${local.uploaded}"]
  }

  provisioner "file" {
    direction   = "download"
    source      = "${local.uploaded}.manifest"
    destination = "dist/image-${source.name}.manifest"
  }

  post-processor "manifest" {
    output = "dist/images.json"
  }
}
