variable "name" {
  description = "The cluster's name: of everything that is made, of the tag etcd-cluster, and of the folder in the bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$", var.name))
    error_message = "name must be 1 to 24 lower-case letters, digits and hyphens, beginning and ending with a letter or digit: a load balancer's name may have 32."
  }
}

variable "vpc_id" {
  description = "The VPC to live in."
  type        = string
}

variable "subnets" {
  description = "Private subnets by availability zone: { \"eu-west-1a\" = \"subnet-0abc\", … }. They need a way to S3, EC2, Auto Scaling and KMS."
  type        = map(string)

  validation {
    condition     = length(var.subnets) > 0
    error_message = "subnets must name at least one; three zones survive the loss of one."
  }
}

variable "image_id" {
  description = "An AMI with etcd and the agent in it (packer/). A new one rolls through the cluster by instance refresh."
  type        = string
}

variable "size" {
  description = "How many members. An even number tolerates no more failures than the odd one below it."
  type        = number
  default     = 3

  validation {
    condition     = contains([1, 3, 5, 7], var.size)
    error_message = "size must be 1, 3, 5 or 7."
  }
}

variable "one_group_per_zone" {
  description = "One Auto Scaling group a zone: each zone keeps its share whatever happens to the others. All of them are one cluster."
  type        = bool
  default     = false
}

variable "instance_type" {
  description = "etcd wants a disk and a network that do not stall rather than many cores."
  type        = string
  default     = "m6i.large"
}

variable "data_volume" {
  description = "The disk of etcd's data. It goes with its instance: a replacement joins anew."
  type = object({
    device     = optional(string, "/dev/xvdb")
    size_gib   = optional(number, 20)
    iops       = optional(number, 3000)
    throughput = optional(number, 125)
  })
  default = {}

  validation {
    condition     = can(regex("^/dev/(sd|xvd)[b-z]$", var.data_volume.device))
    error_message = "data_volume.device must be like /dev/xvdb: a name that EC2 gives to a volume, and not that of the root disk."
  }
}

variable "bucket_name" {
  description = "The bucket's name. Empty: NAME-etcd-ACCOUNT."
  type        = string
  default     = ""
}

variable "prefix" {
  description = "Everything is written below PREFIX/NAME/ in the bucket."
  type        = string
  default     = "etcd"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.prefix))
    error_message = "prefix must be like \"etcd\" or \"team/etcd\": no slash at either end."
  }
}

variable "kms_key_arn" {
  description = "The KMS key that the bucket is encrypted with. Empty: a new one."
  type        = string
  default     = ""
}

variable "tls" {
  description = "off; or ca: the agents issue their own certificates from an authority in Parameter Store, clients need one, too (docs/tls.md). Choose before the cluster is founded."
  type        = string
  default     = "off"

  validation {
    condition     = contains(["off", "ca"], var.tls)
    error_message = "tls must be off or ca; for files of your own use settings."
  }
}

variable "settings" {
  description = "More of the agent's settings, as TOML: whole sections other than cluster, discovery, storage and, unless var.tls is off, tls."
  type        = string
  default     = ""
}

variable "client_cidr_blocks" {
  description = "Who may reach etcd's client port."
  type        = list(string)
  default     = []
}

variable "metrics_cidr_blocks" {
  description = "Who may reach the agent's port (metrics, status), etcd's metrics, and the node exporter."
  type        = list(string)
  default     = []
}

variable "load_balancer" {
  description = "An internal Network Load Balancer in front of the members that are ready."
  type        = bool
  default     = true
}

variable "zone_id" {
  description = "A private Route 53 zone in which the load balancer gets the cluster's name. Empty: none."
  type        = string
  default     = ""
}

variable "alarm_topic_arns" {
  description = "SNS topics that hear of alarms."
  type        = list(string)
  default     = []
}

variable "launch_timeout_s" {
  description = "How long a new instance may take to become a member that serves, before it is given up and another one is launched."
  type        = number
  default     = 1800
}

variable "leave_timeout_s" {
  description = "How long the agent of a leaving instance may be silent before it is terminated regardless; it sends heartbeats while it has something to do."
  type        = number
  default     = 600
}

variable "wait_for_capacity_timeout" {
  description = "How long `apply` waits for every member to serve; \"0\" does not wait."
  type        = string
  default     = "20m"
}

variable "policy_arns" {
  description = "More policies for the instances' role, such as that of the SSM agent. The agent needs none of them."
  type        = set(string)
  default     = []
}

variable "force_destroy" {
  description = "Let `terraform destroy` delete the bucket with every snapshot in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "For everything that is made."
  type        = map(string)
  default     = {}
}
