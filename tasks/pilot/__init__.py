"""A batch's pilot: its decision, the policy that it leads to, and the audits after it."""
