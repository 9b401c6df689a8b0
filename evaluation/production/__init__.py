"""What production did, from its log: tier mix, escalations, cost, how far to believe the judge; and what was labelled.

A log contains no truth: whether an answer was right is known only if it was labeled. What it does hold is
reported with its interval, and what it cannot show is said in words.
"""
