"""`etcd-asg-agent doctor`: what would keep the agent from its work here, before it does.

`looking/` reads, and changes nothing; `judging/` makes findings of what was read, and reads nothing. Neither belongs to
the agent's rounds: what the doctor finds steers nobody.
"""
