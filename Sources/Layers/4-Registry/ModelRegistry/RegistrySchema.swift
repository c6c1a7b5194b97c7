public import StoragePorts

extension ModelVersionRegistry {
    /// The tables, for `MetadataStore.migrate`.
    ///
    /// History is added to and never changed: transitions, alias changes, changes, policies. `models`, `model_tags`,
    /// `model_aliases` and the later columns of `model_versions` hold what that history adds up to now.
    public static let migrations = [
        MetadataMigration(
            name: "registry-1",
            statements: [
                """
                CREATE TABLE model_versions (model TEXT NOT NULL, number BIGINT NOT NULL, created_at BIGINT NOT NULL, \
                created_by TEXT NOT NULL, artifact_hash TEXT NOT NULL, artifact_byte_count BIGINT NOT NULL, \
                artifact_format TEXT NOT NULL, artifact_file_name TEXT NOT NULL, signature TEXT, \
                dataset_hash TEXT NOT NULL, service_version TEXT NOT NULL, run_id TEXT NOT NULL, job_id TEXT NOT NULL, \
                code_commit TEXT NOT NULL, code_branch TEXT NOT NULL, code_dirty BIGINT NOT NULL, \
                seed BIGINT NOT NULL, environment_hash TEXT, parameters TEXT NOT NULL, metrics TEXT NOT NULL, slice_rows TEXT NOT NULL, \
                profile_hash TEXT, description TEXT NOT NULL, tags TEXT NOT NULL, PRIMARY KEY (model, number))
                """,
                "CREATE INDEX model_versions_by_artifact ON model_versions (artifact_hash)",
                """
                CREATE TABLE model_stage_transitions (position BIGINT PRIMARY KEY, model TEXT NOT NULL, \
                number BIGINT NOT NULL, from_stage TEXT, to_stage TEXT NOT NULL, time BIGINT NOT NULL, \
                actor TEXT NOT NULL, reason TEXT NOT NULL, evidence TEXT, \
                FOREIGN KEY (model, number) REFERENCES model_versions (model, number))
                """,
                """
                CREATE INDEX model_stage_transitions_by_version ON model_stage_transitions (model, number, position)
                """,
                """
                CREATE TABLE model_alias_changes (position BIGINT PRIMARY KEY, model TEXT NOT NULL, \
                alias TEXT NOT NULL, number BIGINT, time BIGINT NOT NULL, actor TEXT NOT NULL)
                """,
                "CREATE INDEX model_alias_changes_by_alias ON model_alias_changes (model, alias, position)",
                """
                CREATE TABLE deployment_policies (deployment TEXT NOT NULL, revision BIGINT NOT NULL, \
                model TEXT NOT NULL, time BIGINT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL, \
                policy TEXT NOT NULL, restores BIGINT, PRIMARY KEY (deployment, revision))
                """,
                "CREATE INDEX deployment_policies_by_model ON deployment_policies (model, time)",
            ]),
        MetadataMigration(
            name: "registry-2",
            statements: [
                // What a version is now, beside what it said when it was registered; each change has a row of history.
                "ALTER TABLE model_versions ADD COLUMN stage TEXT NOT NULL DEFAULT 'development'",
                "ALTER TABLE model_versions ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0",
                "ALTER TABLE model_versions ADD COLUMN note TEXT",
                "ALTER TABLE model_versions ADD COLUMN label TEXT",
                "ALTER TABLE model_versions ADD COLUMN source TEXT NOT NULL DEFAULT ''",
                "ALTER TABLE model_versions ADD COLUMN artifact_uri TEXT NOT NULL DEFAULT ''",
                "ALTER TABLE model_versions ADD COLUMN logged_model TEXT",
                "ALTER TABLE model_versions ADD COLUMN run_link TEXT",
                "ALTER TABLE model_versions ADD COLUMN files_hash TEXT",
                "ALTER TABLE model_versions ADD COLUMN deleted_at BIGINT",
                """
                UPDATE model_versions SET note = NULLIF(description, ''), \
                stage = COALESCE((SELECT t.to_stage FROM model_stage_transitions t WHERE t.model = model_versions.model \
                AND t.number = model_versions.number ORDER BY t.position DESC LIMIT 1), 'development'), \
                updated_at = COALESCE((SELECT t.time FROM model_stage_transitions t WHERE t.model = model_versions.model \
                AND t.number = model_versions.number ORDER BY t.position DESC LIMIT 1), created_at)
                """,
                "CREATE INDEX model_versions_by_stage ON model_versions (model, stage)",
                "CREATE INDEX model_versions_by_update ON model_versions (updated_at, model, number)",
                "CREATE INDEX model_versions_by_run ON model_versions (run_id)",
                """
                CREATE TABLE models (model_id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at BIGINT NOT NULL, \
                created_by TEXT NOT NULL, updated_at BIGINT NOT NULL, description TEXT, deleted_at BIGINT)
                """,
                "CREATE UNIQUE INDEX models_by_name ON models (name) WHERE deleted_at IS NULL",
                """
                INSERT INTO models (model_id, name, created_at, created_by, updated_at) SELECT v.model, v.model, \
                MIN(v.created_at), MIN(v.created_by), MAX(v.updated_at) FROM model_versions v GROUP BY v.model
                """,
                // `number` is 0 for what belongs to the model itself.
                """
                CREATE TABLE model_tags (model_id TEXT NOT NULL, number BIGINT NOT NULL, key TEXT NOT NULL, \
                value TEXT NOT NULL, PRIMARY KEY (model_id, number, key)) /* clustered */
                """,
                """
                CREATE TABLE model_aliases (model_id TEXT NOT NULL, alias TEXT NOT NULL, number BIGINT NOT NULL, \
                PRIMARY KEY (model_id, alias)) /* clustered */
                """,
                """
                INSERT INTO model_aliases (model_id, alias, number) SELECT c.model, c.alias, c.number \
                FROM model_alias_changes c WHERE c.number IS NOT NULL AND c.position = (SELECT MAX(l.position) \
                FROM model_alias_changes l WHERE l.model = c.model AND l.alias = c.alias)
                """,
                """
                CREATE TABLE model_changes (position BIGINT PRIMARY KEY, model_id TEXT NOT NULL, number BIGINT NOT NULL, \
                kind TEXT NOT NULL, key TEXT, before_text TEXT, after_text TEXT, time BIGINT NOT NULL, actor TEXT NOT NULL)
                """,
                "CREATE INDEX model_changes_by_model ON model_changes (model_id, number, position)",
                "CREATE INDEX model_stage_transitions_by_time ON model_stage_transitions (model, time, position)",
                """
                CREATE TABLE model_stage_snapshots (model TEXT NOT NULL, position BIGINT NOT NULL, time BIGINT NOT NULL, \
                stages TEXT NOT NULL, PRIMARY KEY (model, time, position)) /* clustered */
                """,
                "CREATE INDEX deployment_policies_by_time ON deployment_policies (deployment, time, revision)",
                "CREATE INDEX deployment_policies_by_name ON deployment_policies (model, deployment)",
                // What a plain registry of MLflow's calls kept before there was one registry; emptied when taken over.
                "CREATE TABLE IF NOT EXISTS mlflow_registry_model (name TEXT PRIMARY KEY, document TEXT NOT NULL)",
                """
                CREATE TABLE IF NOT EXISTS mlflow_registry_version (
                    name TEXT NOT NULL, version BIGINT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (name, version))
                """,
            ]),
        MetadataMigration(
            name: "registry-3",
            statements: [
                """
                CREATE TABLE model_examinations (position BIGINT PRIMARY KEY, model TEXT NOT NULL, number BIGINT NOT NULL, \
                stage TEXT NOT NULL, passed BIGINT NOT NULL, seal TEXT NOT NULL, approvals BIGINT NOT NULL, \
                evidence TEXT NOT NULL, time BIGINT NOT NULL, actor TEXT NOT NULL)
                """,
                "CREATE INDEX model_examinations_by_version ON model_examinations (model, number, stage, position)",
                """
                CREATE TABLE model_approvals (position BIGINT PRIMARY KEY, model TEXT NOT NULL, number BIGINT NOT NULL, \
                stage TEXT NOT NULL, actor TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, seal TEXT NOT NULL, \
                time BIGINT NOT NULL)
                """,
                "CREATE INDEX model_approvals_by_version ON model_approvals (model, number, stage, position)",
            ]),
        MetadataMigration(
            name: "registry-4",
            statements: [
                "CREATE INDEX model_versions_by_creation ON model_versions (created_at, model, number)",
                // The newest of each stage without looking at the others.
                "CREATE INDEX model_versions_by_stage_number ON model_versions (model, stage, number)",
                "DROP INDEX model_versions_by_stage",
            ]),
        MetadataMigration(
            name: "registry-5",
            statements: [
                // Which feature services versions in use need, asked after every change, is answered by this index alone.
                """
                CREATE INDEX model_versions_by_service ON model_versions (stage, deleted_at, service_version, model, number)
                """
            ]),
        MetadataMigration(
            name: "registry-6", statements: ["ALTER TABLE model_versions ADD COLUMN requirement_differences TEXT"]),
    ]
}
