-- What is shown of answers that are to be labeled: the last :messages messages of each query, and with turn 0 the answer
-- of the call; each cut after :chars characters, and as many messages, from the last, as begin within :chars. Here, and
-- not where they are read: a body may have megabytes of pictures or metadata.
WITH wanted AS (
    SELECT * FROM unnest(CAST(:query_ids AS bigint[]), CAST(:call_ids AS bigint[])) WITH ORDINALITY
        AS w (query_id, call_id, place)
),
said AS (
    SELECT w.place, 0 AS turn, NULL AS role,
           coalesce(c.response, a.response) #> '{choices,0,message,content}' AS content
    FROM wanted AS w
    LEFT JOIN calls AS c ON c.id = w.call_id AND c.query_id = w.query_id
    LEFT JOIN answers AS a ON a.query_id = w.query_id AND a.call_id = w.call_id
    UNION ALL
    SELECT w.place, m.turn, left(m.message ->> 'role', 64), m.message -> 'content'
    FROM wanted AS w
    JOIN prompts AS p ON p.query_id = w.query_id
    CROSS JOIN LATERAL (
        SELECT e.message, e.turn FROM json_array_elements(p.body -> 'messages') WITH ORDINALITY AS e (message, turn)
        ORDER BY e.turn DESC
        LIMIT CAST(:messages AS integer) + 1
    ) AS m
),
shown AS (
    SELECT s.place, s.turn, s.role, coalesce(left(
        CASE json_typeof(s.content)
        WHEN 'string' THEN s.content #>> '{}'
        WHEN 'array' THEN (
            SELECT string_agg(coalesce(nullif(e.part ->> 'text', ''), '[' || (e.part ->> 'type') || ']'), E'\n'
                              ORDER BY e.place)
            FROM json_array_elements(s.content) WITH ORDINALITY AS e (part, place)
            WHERE json_typeof(e.part) = 'object')
        END, CAST(:chars AS integer) + 1), '') AS text
    FROM said AS s
),
counted AS (
    SELECT s.*, row_number() OVER later AS place_from_last, sum(length(s.text)) OVER later - length(s.text) AS chars_after
    FROM shown AS s
    WINDOW later AS (PARTITION BY s.place, s.turn > 0 ORDER BY s.turn DESC)
)
SELECT place, turn, role, text
FROM counted
WHERE turn = 0 OR place_from_last <= CAST(:messages AS integer) AND chars_after <= CAST(:chars AS integer)
ORDER BY place, turn
