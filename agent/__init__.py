"""etcd-asg-agent: keeps one etcd cluster alive on an AWS Auto Scaling group."""

__version__ = "0.1.0"
