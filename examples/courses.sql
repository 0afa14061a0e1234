-- courses: a course takes so many students, a student so many courses.
--
--   psql -f examples/courses.sql
--
-- schema: where the functions go; courses unless given.
--
-- No stream could keep both rules: a subscription is about a course and about a student.  So its
-- event bears a tag of each; who decides reads by both, and appends on condition that nothing was
-- added to either since.  Different courses and students do not wait for each other.

\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema courses
\endif

CREATE SCHEMA :"schema";
SET search_path = :"schema", public;

CREATE FUNCTION define_course(course text, places int) RETURNS void
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
BEGIN
    PERFORM es_append('Course-' || course, 'CourseDefined', jsonb_build_object('course', course, 'places', places),
        tags => ARRAY['course:' || course], expected_version => 0);
END;
$$;
COMMENT ON FUNCTION define_course IS 'Once a course: its stream is a boundary of its own, for which an expected version will do';

-- The head is read first, then the events: whatever comes in between stands beyond the head, and
-- fails the append.  Then the function waits until that can be read, and decides again.
CREATE FUNCTION subscribe(course text, student text) RETURNS void
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
DECLARE
    query jsonb := jsonb_build_array(
        jsonb_build_object('tags', ARRAY['course:' || course], 'types', ARRAY['CourseDefined', 'StudentSubscribed', 'StudentLeft']),
        jsonb_build_object('tags', ARRAY['student:' || student], 'types', ARRAY['StudentSubscribed', 'StudentLeft']));
    known bigint;
    conflict text;
    state record;
BEGIN
    LOOP
        known := es_head();
        SELECT
            max((data->>'places')::int) FILTER (WHERE type = 'CourseDefined') AS places,
            coalesce(sum(step) FILTER (WHERE data->>'course' = subscribe.course), 0) AS taken,
            coalesce(sum(step) FILTER (WHERE data->>'student' = subscribe.student), 0) AS courses,
            coalesce(sum(step) FILTER (WHERE data->>'course' = subscribe.course AND data->>'student' = subscribe.student), 0) AS subscribed
        INTO state
        FROM (
            SELECT type, data, CASE type WHEN 'StudentSubscribed' THEN 1 WHEN 'StudentLeft' THEN -1 ELSE 0 END AS step
            FROM es_query(query, max_count => NULL)) event;

        IF state.places IS NULL THEN
            RAISE EXCEPTION 'there is no course "%"', course;
        ELSIF state.subscribed > 0 THEN
            RAISE EXCEPTION 'student "%" is in course "%" already', student, course;
        ELSIF state.taken >= state.places THEN
            RAISE EXCEPTION 'course "%" is full', course;
        ELSIF state.courses >= 10 THEN
            RAISE EXCEPTION 'student "%" has ten courses', student;
        END IF;

        BEGIN
            PERFORM es_append('Subscription-' || student || '-' || course, 'StudentSubscribed',
                jsonb_build_object('course', course, 'student', student),
                tags => ARRAY['course:' || course, 'student:' || student],
                condition => jsonb_build_object('query', query, 'after', known));
            RETURN;
        EXCEPTION
            WHEN SQLSTATE 'SE004' THEN
                GET STACKED DIAGNOSTICS conflict = PG_EXCEPTION_DETAIL;
                PERFORM es_wait(substring(conflict FROM 'position: (\d+)')::bigint);
        END;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION subscribe IS 'Subscribe a student; one decision a transaction, for the head does not pass what the transaction itself has appended';

-- To leave makes room and breaks no rule, so it needs no condition but that of its own stream.
CREATE FUNCTION leave(course text, student text) RETURNS void
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
DECLARE
    subscription text := 'Subscription-' || student || '-' || course;
    last record;
BEGIN
    SELECT version, type INTO last FROM es_read_stream(subscription, backwards => true, max_count => 1);
    IF last.type IS DISTINCT FROM 'StudentSubscribed' THEN
        RAISE EXCEPTION 'student "%" is not in course "%"', student, course;
    END IF;
    PERFORM es_append(subscription, 'StudentLeft', jsonb_build_object('course', course, 'student', student),
        tags => ARRAY['course:' || course, 'student:' || student], expected_version => last.version);
END;
$$;

-- The log, subscription by subscription: where is a rule broken?
CREATE VIEW difference AS
WITH change AS (
    SELECT position, data->>'course' AS course, data->>'student' AS student,
        CASE type WHEN 'StudentSubscribed' THEN 1 ELSE -1 END AS step
    FROM eventstore.events
    WHERE type IN ('StudentSubscribed', 'StudentLeft')
), state AS (
    SELECT position, course, student,
        sum(step) OVER (PARTITION BY course ORDER BY position) AS taken,
        sum(step) OVER (PARTITION BY student ORDER BY position) AS courses,
        sum(step) OVER (PARTITION BY course, student ORDER BY position) AS subscribed
    FROM change
)
SELECT state.*, (d.data->>'places')::int AS places
FROM state
LEFT JOIN eventstore.events d ON d.type = 'CourseDefined' AND d.data->>'course' = course
WHERE taken > (d.data->>'places')::int OR courses > 10 OR subscribed NOT IN (0, 1) OR d.data IS NULL;
COMMENT ON VIEW difference IS 'Subscriptions that break a rule; no rows: the rules hold';

-- What it is good for.
SELECT define_course('algebra', 2);
SELECT subscribe('algebra', 'ada');
SELECT subscribe('algebra', 'grace');

DO $$
BEGIN
    PERFORM subscribe('algebra', 'emmy');
    RAISE 'a full course has taken a student';
EXCEPTION
    WHEN raise_exception THEN
        IF SQLERRM <> 'course "algebra" is full' THEN
            RAISE;
        END IF;
END;
$$;

SELECT leave('algebra', 'ada');
SELECT subscribe('algebra', 'emmy');

SELECT data->>'student' AS student, type
FROM es_query('[{"tags": ["course:algebra"], "types": ["StudentSubscribed", "StudentLeft"]}]');
