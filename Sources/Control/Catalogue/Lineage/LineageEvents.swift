import PlatformCore

/// A dataset as our events describe it.
public struct LineageDataset: Sendable {
    /// A column and its type.
    public struct Field: Sendable {
        let name: String
        let type: String
        /// Makes a field.
        public init(name: String, type: String) {
            self.name = name
            self.type = type
        }
    }
    /// What a column is made from.
    public struct Origin: Sendable {
        let column: String
        let dataset: String
        let field: String
        let detail: String
        /// Makes an origin in a dataset of our namespace.
        public init(column: String, dataset: String, field: String, detail: String) {
            self.column = column
            self.dataset = dataset
            self.field = field
            self.detail = detail
        }
    }
    /// Its namespace; ours unless said otherwise.
    public var namespace = OpenLineage.namespace
    /// Its name: `source/departures`, `dataset/5f2a…`.
    public var name: String
    /// Its columns.
    public var fields: [Field] = []
    /// Its version.
    public var version: String?
    /// What its columns are made from.
    public var origins: [Origin] = []
    /// Rows that were read or written.
    public var rowCount: Int?
    /// Bytes that were read or written.
    public var byteCount: Int?
    /// Files that were read or written.
    public var fileCount: Int?
    /// Missing values by column, of rows that were read.
    public var nullCounts: [String: Int] = [:]

    /// Describes a dataset by its name.
    public init(_ name: String) { self.name = name }
}

/// Writes events as the OpenLineage specification 2-0-2 has them.
enum LineageEvents {
    private static func facet(_ file: String, _ version: String, _ members: [String: JSONValue]) -> JSONValue {
        var all = members
        all["_producer"] = .string(OpenLineage.producer)
        all["_schemaURL"] = .string("https://openlineage.io/spec/facets/\(version)/\(file).json#/$defs/\(file)")
        return .object(all)
    }

    static func run(
        _ type: String, at time: EventTime, run: String, job: String, kind: String, inputs: [LineageDataset],
        outputs: [LineageDataset], fault: String?
    ) -> JSONValue {
        var facets: [String: JSONValue] = [
            "processing_engine": facet("ProcessingEngineRunFacet", "1-1-1", ["name": "bottega", "version": "0.1.0"])
        ]
        if let fault {
            facets["errorMessage"] = facet(
                "ErrorMessageRunFacet", "1-0-1",
                ["message": .string(String(fault.prefix(2000))), "programmingLanguage": "Swift"])
        }
        return [
            "eventType": .string(type), "eventTime": .string(time.description),
            "producer": .string(OpenLineage.producer),
            "schemaURL": .string(OpenLineage.specification + "#/$defs/RunEvent"),
            "run": ["runId": .string(run), "facets": .object(facets)],
            "job": [
                "namespace": .string(OpenLineage.namespace), "name": .string(job),
                "facets": [
                    "jobType": facet(
                        "JobTypeJobFacet", "2-0-4",
                        [
                            "integration": "BOTTEGA", "jobType": .string(kind), "processingType": "BATCH",
                        ])
                ],
            ],
            "inputs": .array(inputs.map { dataset($0, isOutput: false) }),
            "outputs": .array(outputs.map { dataset($0, isOutput: true) }),
        ]
    }

    /// `file:///data/a%20b.csv`: an address holds no blanks and no letters beyond ASCII.
    private static func address(of dataset: LineageDataset) -> String {
        let plain = Set("-._~!$&'()*+,;=:@/".utf8)
        var text = dataset.namespace.contains("://") ? "\(dataset.namespace)/" : "\(dataset.namespace)://"
        for byte in dataset.name.utf8 {
            let isPlain = 48...57 ~= byte || 65...90 ~= byte || 97...122 ~= byte || plain.contains(byte)
            let digits = String(byte, radix: 16, uppercase: true)
            text += isPlain ? String(UnicodeScalar(byte)) : "%\(byte < 16 ? "0" : "")\(digits)"
        }
        return text
    }

    private static func dataset(_ dataset: LineageDataset, isOutput: Bool) -> JSONValue {
        var facets: [String: JSONValue] = [
            "dataSource": facet(
                "DatasourceDatasetFacet", "1-0-1",
                ["name": .string(dataset.namespace), "uri": .string(address(of: dataset))])
        ]
        if !dataset.fields.isEmpty {
            facets["schema"] = facet(
                "SchemaDatasetFacet", "1-2-0",
                ["fields": .array(dataset.fields.map { ["name": .string($0.name), "type": .string($0.type)] })])
        }
        if let version = dataset.version {
            facets["version"] = facet("DatasetVersionDatasetFacet", "1-0-1", ["datasetVersion": .string(version)])
        }
        if isOutput, !dataset.origins.isEmpty {
            let fields = Dictionary(grouping: dataset.origins, by: \.column).mapValues { origins -> JSONValue in
                [
                    "inputFields": .array(
                        origins.map {
                            [
                                "namespace": .string(OpenLineage.namespace), "name": .string($0.dataset),
                                "field": .string($0.field),
                                "transformations": [
                                    [
                                        "type": "DIRECT", "subtype": "TRANSFORMATION",
                                        "description": .string($0.detail),
                                        "masking": false,
                                    ]
                                ],
                            ]
                        })
                ]
            }
            facets["columnLineage"] = facet("ColumnLineageDatasetFacet", "1-2-0", ["fields": .object(fields)])
        }
        var members: [String: JSONValue] = [
            "namespace": .string(dataset.namespace), "name": .string(dataset.name), "facets": .object(facets),
        ]
        guard let rowCount = dataset.rowCount else { return .object(members) }
        if isOutput {
            var statistics: [String: JSONValue] = ["rowCount": .integer(Int64(rowCount))]
            if let size = dataset.byteCount { statistics["size"] = .integer(Int64(size)) }
            if let files = dataset.fileCount { statistics["fileCount"] = .integer(Int64(files)) }
            members["outputFacets"] = [
                "outputStatistics": facet("OutputStatisticsOutputDatasetFacet", "1-0-2", statistics)
            ]
        } else {
            var metrics: [String: JSONValue] = [
                "rowCount": .integer(Int64(rowCount)),
                "columnMetrics": .object(dataset.nullCounts.mapValues { ["nullCount": .integer(Int64($0))] }),
            ]
            if let size = dataset.byteCount { metrics["bytes"] = .integer(Int64(size)) }
            members["inputFacets"] = [
                "dataQualityMetrics": facet("DataQualityMetricsInputDatasetFacet", "1-0-3", metrics)
            ]
        }
        return .object(members)
    }
}
