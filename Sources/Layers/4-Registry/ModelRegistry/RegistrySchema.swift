public import StoragePorts

extension ModelVersionRegistry {
    /// The tables, for `MetadataStore.migrate`.
    ///
    /// Rows are added and never changed.
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
            ])
    ]
}
