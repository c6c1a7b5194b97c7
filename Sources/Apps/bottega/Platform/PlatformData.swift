import Catalogue
import Datasets
import Definitions
import DuckDBAdapter
import FeatureStore
import FileSystemAdapter
import Foundation
import Governance
import Logging
import ModelServing
import PlatformCore
import PostgreSQLAdapter
import RuntimePorts
import SparkAdapter
import StoragePorts
import Synchronization
import Workflows

/// From events to features: sources, tables, definitions, engines, the stream.
struct PlatformData {
    let engine: DuckDBEngine
    let trainingEngine: any OfflineEngine
    let limits: QueryLimits
    let catalog: DefinitionCatalog
    let codecs: CodecCache
    let shapes: SourceShapes
    let stream: StreamEngine
    /// A secret by the name of its environment variable.
    let secret: @Sendable (String) -> String?
    let ingest: IngestService
    let tables: TableService
    let datasets: DatasetIndex
    let externalLineage: ExternalLineage
    let lineage: LineageOutbox

    init(_ settings: Settings, on base: PlatformBase, logger: Logger) async throws {
        let (directory, log, metadata, clock) = (base.directory, base.log, base.metadata, base.clock)
        let machineIdentifiers = base.machineIdentifiers
        engine = DuckDBEngine(
            configuration: DuckDBConfiguration(executablePath: settings.duckDBPath, spillFolder: "\(directory)/spill"),
            logger: logger)
        do { _ = try await engine.version() } catch {
            logger.warning(
                "DuckDB cannot be used: Parquet files cannot be loaded, training sets not built",
                metadata: ["cause": "\(error.message)"])
        }
        trainingEngine =
            settings.offlineEngine == .spark
            ? SparkEngine(configuration: .init(settings, folder: "\(directory)/spark"), logger: logger) : engine
        limits = QueryLimits(memoryByteCountMax: settings.duckDBMemoryByteCount)
        catalog = DefinitionCatalog(store: metadata, clock: clock, journal: base.audit)
        codecs = CodecCache()
        shapes = SourceShapes(metadata: metadata) { [catalog] source, column in
            Self.readers(of: column, in: source, catalog.current)
        }
        stream = StreamEngine(
            online: base.stores.online, log: log, clock: clock,
            configuration: StreamEngineConfiguration(
                entityCountMax: settings.entityCountMax, stateByteCountMax: settings.stateByteCountMax,
                rowsAtOnceMax: settings.rowsAtOnceMax, cachedEntityCountMax: settings.cachedEntityCountMax,
                maxStaleness: settings.maxStaleness)
        ) { [codecs, shapes] record, source in try? codecs.codec(of: shapes.effective(source)).decode(record.value) }
        let environment = ProcessInfo.processInfo.environment
        secret = { environment[$0] }
        ingest = IngestService(
            log: log, metadata: metadata, engine: engine, files: LocalSourceFiles(), database: PostgreSQLRowSource(),
            shapes: shapes, secret: secret, spoolFolder: "\(directory)/spool", listener: stream,
            identifiers: machineIdentifiers)
        try await ingest.prepare()
        tables = TableService(
            log: log, objects: base.objects, engine: engine, spoolFolder: "\(directory)/spool",
            identifiers: machineIdentifiers, clock: clock, shapes: shapes)

        datasets = DatasetIndex(store: metadata)

        externalLineage = ExternalLineage()
        lineage = LineageOutbox(
            log: log, clock: clock, identifiers: machineIdentifiers, external: externalLineage,
            sink: try settings.lineageSink(), logger: logger)
        try await lineage.prepare()
    }

    /// What may read a column of a source: its views, training sets.
    private static func readers(of column: String, in source: Name, _ definitions: DefinitionSet) -> [String] {
        var readers: [String] = []
        // Every view of the source: an expression of the view may read the column as well as a feature.
        for view in definitions.featureViews.values where view.source == source {
            readers.append("FeatureView/\(view.name)")
        }
        for set in definitions.trainingSets.values {
            let isLabel = set.labelSource == source && (set.labelColumn == column || set.labelKeys.contains(column))
            let isAsked =
                if case .sql(_, let sources)? = set.outsideSpine?.origin { sources.contains(source) } else {
                    set.spine == source
                }
            if isLabel || isAsked { readers.append("TrainingSet/\(set.name)") }
        }
        return readers.sorted()
    }
}

/// Codecs of sources, compiled once for each definition: an older view may read its source as it was then.
final class CodecCache: Sendable {
    private static let countMax = 4
    private let codecs = Mutex<[Name: [(definition: SourceDefinition, codec: SourceRowCodec)]]>([:])

    func codec(of source: SourceDefinition) -> SourceRowCodec {
        codecs.withLock { codecs in
            if let known = codecs[source.name]?.first(where: { $0.definition == source }) { return known.codec }
            let codec = SourceRowCodec(source)
            codecs[source.name] = ((codecs[source.name] ?? []) + [(source, codec)]).suffix(Self.countMax)
            return codec
        }
    }
}

extension SparkConfiguration {
    /// Spark as the settings name it.
    init(_ settings: Settings, folder: String) {
        self.init(
            pythonPath: settings.sparkPython, master: settings.sparkMaster, sparkHome: settings.sparkHome,
            memoryByteCount: settings.sparkMemoryByteCount, folder: folder)
    }
}
