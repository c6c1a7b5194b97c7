public import StoragePorts

extension TrackingStore {
    /// The schema.
    ///
    /// A metric's history lies in chunks of points, one behind the other; its latest value, count, least and greatest
    /// value have a row of their own, which searches read through an index on the value.
    public static let migrations: [MetadataMigration] = [
        MetadataMigration(
            name: "tracking-1",
            statements: [
                """
                CREATE TABLE tracking_experiment (
                    number BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, artifact_location TEXT NOT NULL,
                    is_deleted BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)
                """,
                """
                CREATE TABLE tracking_experiment_tag (
                    experiment_number BIGINT NOT NULL REFERENCES tracking_experiment (number),
                    key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (experiment_number, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_run (
                    number BIGINT PRIMARY KEY, run_id TEXT NOT NULL UNIQUE,
                    experiment_number BIGINT NOT NULL REFERENCES tracking_experiment (number), name TEXT NOT NULL,
                    user_name TEXT NOT NULL, status TEXT NOT NULL, started_at BIGINT NOT NULL, ended_at BIGINT,
                    artifact_uri TEXT NOT NULL, is_deleted BIGINT NOT NULL)
                """,
                "CREATE INDEX tracking_run_by_time ON tracking_run (experiment_number, is_deleted, started_at)",
                """
                CREATE TABLE tracking_run_tag (
                    run_number BIGINT NOT NULL REFERENCES tracking_run (number), key TEXT NOT NULL, value TEXT NOT NULL,
                    PRIMARY KEY (run_number, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_param (
                    run_number BIGINT NOT NULL REFERENCES tracking_run (number), key TEXT NOT NULL, value TEXT NOT NULL,
                    PRIMARY KEY (run_number, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_metric (
                    run_number BIGINT NOT NULL, key TEXT NOT NULL, measured_at BIGINT NOT NULL, step BIGINT NOT NULL,
                    value DOUBLE PRECISION NOT NULL, is_nan BIGINT NOT NULL,
                    PRIMARY KEY (run_number, key, measured_at, step, value, is_nan)) /* clustered */
                """,
                """
                CREATE TABLE tracking_metric_latest (
                    run_number BIGINT NOT NULL, key TEXT NOT NULL, step BIGINT NOT NULL, measured_at BIGINT NOT NULL,
                    value DOUBLE PRECISION NOT NULL, is_nan BIGINT NOT NULL,
                    model_id TEXT, dataset_name TEXT, dataset_digest TEXT,
                    PRIMARY KEY (run_number, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_dataset (
                    number BIGINT PRIMARY KEY, experiment_number BIGINT NOT NULL, name TEXT NOT NULL,
                    digest TEXT NOT NULL, source_type TEXT NOT NULL, source TEXT NOT NULL, schema_text TEXT,
                    profile TEXT, UNIQUE (experiment_number, name, digest))
                """,
                """
                CREATE TABLE tracking_run_dataset (
                    run_number BIGINT NOT NULL REFERENCES tracking_run (number),
                    dataset_number BIGINT NOT NULL REFERENCES tracking_dataset (number),
                    context TEXT, tags TEXT NOT NULL, PRIMARY KEY (run_number, dataset_number)) /* clustered */
                """,
                """
                CREATE TABLE tracking_run_model (
                    run_number BIGINT NOT NULL REFERENCES tracking_run (number), is_output BIGINT NOT NULL,
                    model_id TEXT NOT NULL, step BIGINT NOT NULL,
                    PRIMARY KEY (run_number, is_output, model_id)) /* clustered */
                """,
                """
                CREATE TABLE tracking_logged_model (
                    model_id TEXT PRIMARY KEY,
                    experiment_number BIGINT NOT NULL REFERENCES tracking_experiment (number), name TEXT NOT NULL,
                    model_type TEXT, source_run_id TEXT, status TEXT NOT NULL, created_at BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL, artifact_uri TEXT NOT NULL, is_deleted BIGINT NOT NULL)
                """,
                "CREATE INDEX tracking_logged_model_by_experiment ON tracking_logged_model (experiment_number)",
                "CREATE INDEX tracking_logged_model_by_run ON tracking_logged_model (source_run_id)",
                """
                CREATE TABLE tracking_logged_model_tag (
                    model_id TEXT NOT NULL REFERENCES tracking_logged_model (model_id), key TEXT NOT NULL,
                    value TEXT NOT NULL, PRIMARY KEY (model_id, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_logged_model_param (
                    model_id TEXT NOT NULL REFERENCES tracking_logged_model (model_id), key TEXT NOT NULL,
                    value TEXT NOT NULL, PRIMARY KEY (model_id, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_logged_model_metric (
                    model_id TEXT NOT NULL, key TEXT NOT NULL, run_id TEXT NOT NULL, dataset_name TEXT NOT NULL,
                    dataset_digest TEXT NOT NULL, step BIGINT NOT NULL, measured_at BIGINT NOT NULL,
                    value DOUBLE PRECISION NOT NULL, is_nan BIGINT NOT NULL,
                    PRIMARY KEY (model_id, key, run_id, dataset_name, dataset_digest)) /* clustered */
                """,
                """
                CREATE TABLE tracking_artifact (
                    path TEXT PRIMARY KEY, hash TEXT NOT NULL, byte_count BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL) /* clustered */
                """,
            ]),
        MetadataMigration(
            name: "tracking-2",
            statements: [
                """
                CREATE TABLE tracking_metric_chunk (
                    run_number BIGINT NOT NULL, key TEXT NOT NULL, number BIGINT NOT NULL, point_count BIGINT NOT NULL,
                    first_at BIGINT NOT NULL, last_at BIGINT NOT NULL, last_step BIGINT NOT NULL, points BLOB NOT NULL,
                    PRIMARY KEY (run_number, key, number))
                """,
                "CREATE TABLE tracking_journal (number BIGINT PRIMARY KEY, folded BIGINT NOT NULL)",
                "CREATE TABLE tracking_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
                "ALTER TABLE tracking_metric_latest ADD COLUMN point_count BIGINT NOT NULL DEFAULT 0",
                "ALTER TABLE tracking_metric_latest ADD COLUMN minimum DOUBLE PRECISION",
                "ALTER TABLE tracking_metric_latest ADD COLUMN maximum DOUBLE PRECISION",
                "ALTER TABLE tracking_run ADD COLUMN revision BIGINT NOT NULL DEFAULT 0",
                "CREATE INDEX tracking_metric_by_value ON tracking_metric_latest (key, is_nan, value)",
                "CREATE INDEX tracking_param_by_value ON tracking_param (key, substr(value, 1, 64))",
                "CREATE INDEX tracking_tag_by_value ON tracking_run_tag (key, substr(value, 1, 64))",
                "DROP INDEX tracking_run_by_time",
                """
                CREATE INDEX tracking_run_by_start ON tracking_run (experiment_number, is_deleted, started_at DESC,
                    run_id)
                """,
            ]),
        MetadataMigration(
            name: "tracking-3",
            statements: [
                "DROP INDEX tracking_logged_model_by_experiment",
                """
                CREATE INDEX tracking_logged_model_by_time ON tracking_logged_model (experiment_number, is_deleted,
                    created_at DESC, model_id DESC)
                """,
            ]),
        MetadataMigration(
            name: "tracking-4",
            statements: [
                "ALTER TABLE tracking_logged_model_metric RENAME TO tracking_logged_model_metric_latest",
                """
                CREATE TABLE tracking_logged_model_metric (
                    model_id TEXT NOT NULL, key TEXT NOT NULL, run_id TEXT NOT NULL, dataset_name TEXT NOT NULL,
                    dataset_digest TEXT NOT NULL, step BIGINT NOT NULL, measured_at BIGINT NOT NULL,
                    value DOUBLE PRECISION NOT NULL, is_nan BIGINT NOT NULL,
                    PRIMARY KEY (model_id, key, run_id, dataset_name, dataset_digest, step, measured_at)) /* clustered */
                """,
                """
                INSERT INTO tracking_logged_model_metric (model_id, key, run_id, dataset_name, dataset_digest, step,
                    measured_at, value, is_nan)
                SELECT model_id, key, run_id, dataset_name, dataset_digest, step, measured_at, value, is_nan
                FROM tracking_logged_model_metric_latest
                """,
                "DROP TABLE tracking_logged_model_metric_latest",
            ]),
        MetadataMigration(
            name: "tracking-5",
            statements: [
                """
                CREATE TABLE tracking_trace (
                    trace_id TEXT PRIMARY KEY,
                    experiment_number BIGINT NOT NULL REFERENCES tracking_experiment (number),
                    requested_at BIGINT NOT NULL, duration BIGINT, state TEXT NOT NULL, client_request_id TEXT,
                    request_preview TEXT, response_preview TEXT, is_final BIGINT NOT NULL)
                """,
                """
                CREATE INDEX tracking_trace_by_time ON tracking_trace (experiment_number, requested_at DESC, trace_id)
                """,
                """
                CREATE TABLE tracking_trace_tag (
                    trace_id TEXT NOT NULL REFERENCES tracking_trace (trace_id), key TEXT NOT NULL,
                    value TEXT NOT NULL, PRIMARY KEY (trace_id, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_trace_metadata (
                    trace_id TEXT NOT NULL REFERENCES tracking_trace (trace_id), key TEXT NOT NULL,
                    value TEXT NOT NULL, PRIMARY KEY (trace_id, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_trace_span (
                    trace_id TEXT NOT NULL REFERENCES tracking_trace (trace_id), span_id TEXT NOT NULL,
                    parent_id TEXT, name TEXT NOT NULL, kind TEXT, status TEXT NOT NULL, started_at BIGINT NOT NULL,
                    ended_at BIGINT, document TEXT NOT NULL, PRIMARY KEY (trace_id, span_id))
                """,
                """
                CREATE TABLE tracking_trace_attribute (
                    trace_id TEXT NOT NULL REFERENCES tracking_trace (trace_id), span_id TEXT NOT NULL,
                    key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (trace_id, span_id, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_trace_assessment (
                    trace_id TEXT NOT NULL REFERENCES tracking_trace (trace_id), assessment_id TEXT NOT NULL,
                    name TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, number DOUBLE PRECISION,
                    is_valid BIGINT NOT NULL, overrides TEXT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
                    body TEXT NOT NULL, PRIMARY KEY (trace_id, assessment_id)) /* clustered */
                """,
                """
                CREATE TABLE tracking_trace_run (
                    run_id TEXT NOT NULL, trace_id TEXT NOT NULL REFERENCES tracking_trace (trace_id),
                    PRIMARY KEY (run_id, trace_id)) /* clustered */
                """,
                "CREATE INDEX tracking_trace_run_by_trace ON tracking_trace_run (trace_id)",
            ]),
        MetadataMigration(
            name: "tracking-6",
            statements: [
                // Short values are found in the index alone; of long ones it holds the beginning.
                "DROP INDEX tracking_param_by_value",
                "DROP INDEX tracking_tag_by_value",
                "CREATE INDEX tracking_param_by_value ON tracking_param (key, value) WHERE length(value) <= 64",
                "CREATE INDEX tracking_tag_by_value ON tracking_run_tag (key, value) WHERE length(value) <= 64",
                """
                CREATE INDEX tracking_param_by_head ON tracking_param (key, substr(value, 1, 64))
                WHERE length(value) > 64
                """,
                """
                CREATE INDEX tracking_tag_by_head ON tracking_run_tag (key, substr(value, 1, 64))
                WHERE length(value) > 64
                """,
            ]),
        MetadataMigration(
            name: "tracking-7",
            statements: [
                """
                CREATE TABLE tracking_evaluation_dataset (
                    dataset_id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, schema_text TEXT,
                    profile TEXT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, created_by TEXT,
                    updated_by TEXT)
                """,
                "CREATE INDEX tracking_evaluation_dataset_by_name ON tracking_evaluation_dataset (name)",
                """
                CREATE INDEX tracking_evaluation_dataset_by_time ON tracking_evaluation_dataset (created_at DESC,
                    dataset_id DESC)
                """,
                """
                CREATE TABLE tracking_evaluation_dataset_tag (
                    dataset_id TEXT NOT NULL REFERENCES tracking_evaluation_dataset (dataset_id), key TEXT NOT NULL,
                    value TEXT NOT NULL, PRIMARY KEY (dataset_id, key)) /* clustered */
                """,
                """
                CREATE TABLE tracking_evaluation_dataset_experiment (
                    dataset_id TEXT NOT NULL REFERENCES tracking_evaluation_dataset (dataset_id),
                    experiment_number BIGINT NOT NULL REFERENCES tracking_experiment (number),
                    added_at BIGINT NOT NULL, PRIMARY KEY (dataset_id, experiment_number)) /* clustered */
                """,
                """
                CREATE TABLE tracking_evaluation_record (
                    record_id TEXT PRIMARY KEY,
                    dataset_id TEXT NOT NULL REFERENCES tracking_evaluation_dataset (dataset_id),
                    input_hash TEXT NOT NULL, inputs TEXT NOT NULL, outputs TEXT, expectations TEXT,
                    tags TEXT NOT NULL, source TEXT, source_id TEXT, source_type TEXT, created_at BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL, created_by TEXT, updated_by TEXT, byte_count BIGINT NOT NULL,
                    UNIQUE (dataset_id, input_hash))
                """,
                """
                CREATE INDEX tracking_evaluation_record_by_time ON tracking_evaluation_record (dataset_id, created_at,
                    record_id, byte_count)
                """,
                """
                CREATE TABLE tracking_scorer (
                    scorer_id TEXT PRIMARY KEY,
                    experiment_number BIGINT NOT NULL REFERENCES tracking_experiment (number), name TEXT NOT NULL,
                    UNIQUE (experiment_number, name))
                """,
                """
                CREATE TABLE tracking_scorer_version (
                    scorer_id TEXT NOT NULL REFERENCES tracking_scorer (scorer_id), version BIGINT NOT NULL,
                    document TEXT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (scorer_id, version))
                """,
            ]),
    ]
}
