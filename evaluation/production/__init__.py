"""What production did, from its log: tier mix, escalations, cost, how far to believe the judge; and what was labelled.

A log holds no truth: nobody says whether an answer was right, unless somebody labelled it. What it does hold is
reported with its interval, and what it cannot show is said in words.
"""
