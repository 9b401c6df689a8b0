"""A batch's pilot: its decision, the policy from it, and the audits after it."""
