"""A quality floor without labels: what a pilot shows, which policy it certifies, and how the rest is watched.

The way of a batch (all of it pure: no IO, no clock; randomness only by a seed):

1. `pilot_size.plan_pilot(target, batch_size)` says how many queries to sample, or that the batch is too small to
   gain. The sample is uniform over the batch: ``random.Random(seed).sample(ids, size)``, never the first ones.
2. Every query of the sample is answered by every tier of the ladder. `evaluation.graders` grades each answer against
   the top tier's (or a gold column), 0 to 1.
3. `certification.certify(pilot, target, tiers=…, batch_size=…, grader=…)` returns a `Certificate` (plain JSON by
   ``to_json()``) and a `LadderPolicy`, or no policy: then the top tier answers the rest, and ``certificate.reason`` and
   ``more_samples`` say why and what it would take.
4. The rest is decided by the policy: ``policy.start(ids, queries)`` says where each query starts,
   ``policy.decide(ids, queries, start, answers)`` what becomes of it after an answer: accept, next tier, or top.
   ``policy.parts()`` and ``LadderPolicy.from_parts`` carry it through a database: plain arrays, nothing executable.
5. A share of what was accepted below the top goes on to the top after delivery. `loss_audit.breaks` takes the
   losses as they come; it may be looked at at any time, and says when the floor is broken.

Words: the *loss* of an answer is the reference's grade minus its own; it may be negative. The *floor* promises that
the mean loss of the queries that the policy decides is at most 1 - floor, with the stated confidence over pilots. Costs
are in calls to the top tier. Confidences are any numbers from 0 to 1 by a source's name; which of them count is
found on the pilot, where they are calibrated by regression on the graded losses.
"""
