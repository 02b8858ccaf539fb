"""The cloud in a box: an emulated AWS, instances that are processes on loopback, real etcd, and the agent unmodified.

House rules. Everything stays on 127.0.0.0/8 and nothing here ever dials 169.254.169.254. The agent under test must not
be able to tell: what it sees is what AWS would show it, and only endpoints differ. One daemon (`cloud`) owns every
process, address and file of a lab; when it goes, all of them go. One lock guards the emulated EC2 and Auto Scaling, so
that no caller ever sees a state that was half walked.
"""
