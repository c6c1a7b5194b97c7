public import Aggregation
public import ColumnFiles
public import Definitions
public import PlatformCore
import StoragePorts
import Synchronization

/// Answers tables of questions from tables of events, Parquet to Parquet, without a database: the batch engine of
/// training sets.
///
/// 1. The questions' keys are numbered and grouped.
/// 2. Events are read by row group, those of asked entities become records, scattered by entity into partitions. What does
///    not fit into the memory given goes to a spill file.
/// 3. Each partition is sorted by entity and time and swept once (`EntitySweep`); answers are scattered by output row group.
/// 4. Row groups are put together, encoded and written in the order of the questions.
///
/// Every step runs on `threads` threads; nothing depends on their number, and equal input gives equal bytes.
public struct PointInTimeJoin: Sendable {
    /// What it may use.
    public struct Settings: Sendable {
        /// Threads.
        public var threads: Int
        /// Memory in bytes for what grows with the number of events and questions; beyond it there is the disk.
        public var memoryByteCountMax: Int
        /// Where to spill.
        public var spillFolder: String
        /// How files are written.
        public var output: ParquetWriter.Settings
        /// Bounds of what files may claim.
        public var limits: ColumnFileLimits
        /// Makes settings.
        public init(
            threads: Int = 2, memoryByteCountMax: Int = 2 << 30, spillFolder: String = "/tmp",
            output: ParquetWriter.Settings = ParquetWriter.Settings(), limits: ColumnFileLimits = ColumnFileLimits()
        ) {
            self.threads = threads
            self.memoryByteCountMax = memoryByteCountMax
            self.spillFolder = spillFolder
            self.output = output
            self.limits = limits
        }
    }

    /// A view to compute.
    public struct View: Sendable {
        /// Its compiled features; all are computed.
        public let plan: AggregationPlan
        /// Parquet files of its source, with `__event_time`, `__ingest_time` and `__sequence`.
        public let events: [String]
        /// The source's columns, then the view's derived ones.
        let columns: [ColumnDefinition]
        /// Types of the join keys in the source; files that hold them as something else are `unsupported`.
        public let keyTypes: [ColumnType]
        /// Columns of the questions that hold the join keys, in the plan's order.
        public let questionKeys: [String]
        /// Names of the features' columns in the output.
        public let outputs: [String]
        /// Rows with this ingest time or a later one do not exist.
        public let knownBefore: Int64?
        /// Makes a view.
        public init(
            plan: AggregationPlan, source: SourceDefinition, events: [String], questionKeys: [String],
            outputs: [String], knownBefore: Int64? = nil
        ) {
            keyTypes = plan.view.joinKeys.map { source.column($0)?.type ?? .string }
            columns = plan.view.columns(of: source)
            self.plan = plan
            self.events = events
            self.questionKeys = questionKeys
            self.outputs = outputs
            self.knownBefore = knownBefore
        }
    }

    /// A file of questions and the file that its answers become.
    public struct Table: Sendable {
        /// Parquet file of the questions.
        public let questions: String
        /// File to write: a row for each question, in their order.
        public let output: String
        /// Makes a table.
        public init(questions: String, output: String) {
            self.questions = questions
            self.output = output
        }
    }

    /// A column of the output, in order.
    public enum Column: Sendable {
        /// A column of the questions, as it is.
        case question(String)
        /// A feature: position of its view, and of the feature in the view's plan.
        case feature(view: Int, feature: Int)
    }

    /// What was done.
    public struct Report: Sendable {
        /// Rows written.
        public var questions = 0
        /// Events of asked entities.
        public var events = 0
        /// Bytes that went to the spill file.
        public var spilledByteCount = 0
    }

    private let settings: Settings
    private let workers: Workers

    /// Prepares.
    public init(_ settings: Settings = Settings()) {
        self.settings = settings
        workers = Workers(count: settings.threads)
    }

    /// Whether all features of a plan can be computed and written here: each value is one cell.
    public static func answers(_ plan: AggregationPlan) -> Bool {
        plan.features.allSatisfy { OutputWriter.kind($0.type) != nil }
            && plan.columns.allSatisfy { $0.type != .vector }
    }

    /// Computes `views` for the questions of `tables` and writes `columns`.
    ///
    /// - Parameter time: column of the questions with their moments: integers of milliseconds, or timestamps.
    /// - Throws: `ColumnFileError` for files (`unsupported` ones can be rewritten by another engine), `StoreError` for the
    ///   disk (`full`), `CancellationError`.
    public func run(_ tables: [Table], time: String, views: [View], columns: [Column]) async throws -> Report {
        try await workers.detached { try compute(tables, time: time, views: views, columns: columns) }
    }

    /// The same on the calling thread.
    public func compute(_ tables: [Table], time: String, views: [View], columns: [Column]) throws -> Report {
        var report = Report()
        let files = try tables.map { try QuestionFile(path: $0.questions, limits: settings.limits) }
        let groups = QuestionGroups(files)
        guard groups.rowCount < Int(UInt32.max) else {
            throw ColumnFileError(
                .tooLarge, "\(groups.rowCount) questions; at most \(UInt32.max - 1) are answered at once")
        }
        report.questions = groups.rowCount
        let spill = SpillFile(folder: settings.spillFolder)
        let budget = BlockBudget(byteCountMax: settings.memoryByteCountMax / 2)
        var answers: [ViewAnswers] = []
        for view in views {
            let run = ViewRun(
                view: view, groups: groups, time: time, settings: settings, workers: workers, budget: budget,
                spill: spill)
            let (found, events) = try run.answers()
            answers.append(found)
            report.events += events
        }
        try OutputWriter(groups: groups, answers: answers, columns: columns, settings: settings, workers: workers)
            .write(tables.map(\.output))
        report.spilledByteCount = spill.byteCount
        return report
    }
}

/// A file of questions.
struct QuestionFile: Sendable {
    let reader: ParquetReader
    let path: String

    init(path: String, limits: ColumnFileLimits) throws(ColumnFileError) {
        self.path = path
        reader = try ParquetReader(FileBytes(path), limits: limits)
    }

    func position(_ name: String) throws(ColumnFileError) -> Int {
        guard let position = reader.position(of: name) else {
            throw ColumnFileError(.unsupported, "'\(path)' has no column '\(name)'")
        }
        return position
    }
}

/// All row groups of all question files, and where their rows stand among all questions.
struct QuestionGroups: Sendable {
    struct Group: Sendable {
        let file: Int
        let index: Int
        let firstRow: Int
        let rowCount: Int
    }
    let files: [QuestionFile]
    private(set) var groups: [Group] = []
    private(set) var rowCount = 0

    init(_ files: [QuestionFile]) {
        self.files = files
        for (place, file) in files.enumerated() {
            for index in 0..<file.reader.rowGroupCount {
                let rows = file.reader.rowCount(ofRowGroup: index)
                groups.append(Group(file: place, index: index, firstRow: rowCount, rowCount: rows))
                rowCount += rows
            }
        }
    }

    /// The group that holds a row.
    @inline(__always)
    func group(of row: Int) -> Int {
        var (low, high) = (0, groups.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if groups[middle].firstRow <= row { low = middle } else { high = middle - 1 }
        }
        return low
    }
}

/// The answers of one view: by output row group, a word for the row and then the answer.
struct ViewAnswers: Sendable {
    let view: PointInTimeJoin.View
    let layout: AnswerRecord
    let records: PartitionedRecords
    let texts: TextHeap
}

/// Texts by number, shared by all threads.
final class TextHeap: Sendable {
    private let table = Mutex(TextTable())
    private let byteCountMax: Int
    init(byteCountMax: Int) { self.byteCountMax = byteCountMax }

    /// Numbers of a column's texts; for rows of no asked entity nothing is kept.
    func insert(_ vector: ColumnVector, where entities: [UInt32]) throws(ColumnFileError) -> [Int64] {
        let (handles, byteCount) = table.withLock { table in
            var handles = [Int64](repeating: 0, count: vector.count)
            for row in 0..<vector.count where entities[row] != EntityNumbers.none && vector.hasValue(row) {
                handles[row] = Int64(table.insert(vector.bytes, vector.offsets[row]..<vector.offsets[row + 1]))
            }
            return (handles, table.bytes.count)
        }
        guard byteCount <= byteCountMax else {
            throw ColumnFileError(.tooLarge, "text columns hold more than \(byteCountMax) bytes of different texts")
        }
        return handles
    }

    func handle(_ text: String) -> Int64 {
        table.withLock { table in
            var text = text
            return text.withUTF8 { Int64(table.insert(UnsafeRawBufferPointer($0))) }
        }
    }

    func text(_ handle: Int64) -> String {
        table.withLock { String(decoding: $0.bytes[$0.range(Int(handle))], as: UTF8.self) }
    }

    /// Appends texts, one behind the other.
    func write(_ words: [Int64], _ present: [UInt8]) -> ColumnVector {
        table.withLock { table in
            var offsets = [0]
            offsets.reserveCapacity(words.count + 1)
            var bytes: [UInt8] = []
            for (row, word) in words.enumerated() {
                if present[row] != 0 { bytes.append(contentsOf: table.bytes[table.range(Int(word))]) }
                offsets.append(bytes.count)
            }
            return ColumnVector(offsets: offsets, bytes: bytes, present: present.contains(0) ? present : nil)
        }
    }
}
