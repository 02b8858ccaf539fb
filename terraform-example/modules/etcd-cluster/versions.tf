terraform {
  required_version = ">= 1.7" # mocks in `terraform test`

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.60"
    }
  }
}
