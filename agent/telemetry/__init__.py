"""What the outside sees of the agent: logs, metrics, a status page. Reads everything, steers nothing."""
