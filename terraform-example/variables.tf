variable "region" {
  description = "Where everything is made."
  type        = string
  default     = "eu-west-1"
}

variable "name" {
  description = "The cluster's name: of everything that is made, of the tag etcd-cluster, and of the folder in the bucket."
  type        = string
  default     = "etcd"
}

variable "vpc_id" {
  description = "The VPC to live in."
  type        = string
}

variable "subnets" {
  description = "Private subnets by availability zone, such as { \"eu-west-1a\" = \"subnet-0abc\" }. Three zones survive the loss of one."
  type        = map(string)
}

variable "image_id" {
  description = "An AMI with etcd and the agent in it (packer/)."
  type        = string
}

variable "size" {
  description = "How many members: 1, 3, 5 or 7."
  type        = number
  default     = 3
}

variable "one_group_per_zone" {
  description = "One Auto Scaling group a zone, instead of one over all zones."
  type        = bool
  default     = false
}

variable "load_balancer" {
  description = "An internal load balancer in front of the members that serve."
  type        = bool
  default     = true
}

variable "zone_id" {
  description = "A private Route 53 zone in which the load balancer gets the cluster's name. Empty: none."
  type        = string
  default     = ""
}

variable "client_cidr_blocks" {
  description = "Who may reach etcd's client port."
  type        = list(string)
  default     = []
}

variable "alarm_topic_arns" {
  description = "SNS topics that hear of alarms."
  type        = list(string)
  default     = []
}

variable "tls" {
  description = "off, or ca: certificates of the agents' own, from an authority in Parameter Store."
  type        = string
  default     = "off"
}

variable "force_destroy" {
  description = "Let `terraform destroy` delete the bucket with every snapshot in it."
  type        = bool
  default     = false
}

variable "aws_endpoint" {
  description = "An emulator's address, for trying this out without AWS. Empty: AWS."
  type        = string
  default     = ""
}
