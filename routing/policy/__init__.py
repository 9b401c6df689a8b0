"""The routing decision, escalation and failover."""
