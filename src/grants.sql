-- Rights: nobody but the owner has any, except that monitoring may look.  The
-- README shows the three lines that give out append, read and administer.

REVOKE EXECUTE ON FUNCTION
    es_append, es_append_events, es_append_batch, es_check_version,
    es_head, es_epoch, es_wait, es_stream_version, es_position_at,
    eventstore.read_rows, es_read_stream, es_read_all, es_read_category, es_read_correlation, es_read_event, es_query,
    es_create_projection, es_alter_projection, es_drop_projection, es_pause_projection,
    es_resume_projection, es_rebuild_projection, es_run_projection, es_wait_for_projection,
    es_retry_dead_letters, es_projection_state, es_aggregate,
    es_truncate_stream, es_delete_stream, es_tombstone_stream, es_set_retention, es_scavenge,
    es_register_upcaster, es_save_snapshot, es_delete_snapshots, es_load, eventstore.upcasters_changed, eventstore.upcaster_restored,
    es_create_subscription, es_alter_subscription, es_seek_subscription, es_drop_subscription,
    es_fetch, es_ack, es_nack, es_replay_parked, es_discard_parked, es_reset, es_slot, es_set_boundary,
    eventstore.projections_changed, eventstore.projection_restored, eventstore.projection_figures, eventstore.projection_lag, eventstore.subscription_lag,
    es_check, eventstore.rehash, eventstore.name_hash, eventstore.stream_bucket, eventstore.type_key,
    eventstore.event_id, eventstore.event_id_under, eventstore.event_id_position,
    eventstore.new_events_handler, eventstore.new_events_validator,
    eventstore.require_library, eventstore.guard, eventstore.load_guard, eventstore.log_status, eventstore.in_flight
FROM PUBLIC;

GRANT SELECT ON eventstore.status, eventstore.blockers, eventstore.projections, eventstore.dead_letters,
    eventstore.subscriptions, eventstore.subscription_partitions, eventstore.parked_events TO pg_monitor;
GRANT SELECT ON eventstore.mark TO pg_monitor;
GRANT EXECUTE ON FUNCTION eventstore.log_status, eventstore.in_flight, eventstore.projection_figures,
    eventstore.projection_lag, eventstore.subscription_lag, es_epoch TO pg_monitor;
