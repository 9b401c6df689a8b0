-- A paused batch goes on. Its completion window closes later by the pause, and so does a deadline that is the window's;
-- one that is a time of the day stays. How long its provider batches are waited for is planned anew.
WITH unpaused AS (
    UPDATE batches
    SET paused_at = NULL, pause_code = NULL, expires_at = expires_at + (now() - paused_at),
        deadline = CASE WHEN deadline = expires_at THEN deadline + (now() - paused_at) ELSE deadline END
    WHERE id = :batch_id AND paused_at IS NOT NULL
    RETURNING id
),
replanned AS (
    UPDATE provider_batches AS p SET give_up_at = NULL
    FROM unpaused AS b
    WHERE p.batch_id = b.id AND p.state = 'submitted'
)
SELECT id FROM unpaused
