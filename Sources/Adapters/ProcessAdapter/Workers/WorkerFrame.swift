import PlatformCore
import RuntimePorts

/// What goes over the socket between the server and a worker process: 16 bytes of head, little-endian, and a payload.
///
/// The head is the magic `BTW1`, the kind (1 byte), 3 zero bytes, the call's number and the payload's length (4 bytes each).
/// `worker.py` describes the payloads. What a worker sends is from outside: every length is checked before it is believed.
struct WorkerFrame: Equatable {
    enum Kind: UInt8 {
        case layout = 1
        case predict = 2
        case ping = 3
        case hello = 16
        case answer = 17
        case fault = 18
        case pong = 19
    }
    /// Why bytes are no frame, or a frame is no answer.
    struct Garbage: Error, Equatable {
        let reason: String
    }

    static let headByteCount = 16
    static let payloadByteCountMax = 64 << 20
    private static let magic = Array("BTW1".utf8)

    let kind: Kind
    let call: UInt32
    let payload: [UInt8]

    /// The frame as bytes.
    var bytes: [UInt8] {
        var bytes = Self.magic
        bytes.reserveCapacity(Self.headByteCount + payload.count)
        bytes += [kind.rawValue, 0, 0, 0]
        Self.append(call, to: &bytes)
        Self.append(UInt32(payload.count), to: &bytes)
        return bytes + payload
    }

    /// Reads a head: which kind of frame follows, for which call, with how many bytes.
    static func head(_ bytes: some Collection<UInt8>) throws(Garbage) -> (kind: Kind, call: UInt32, byteCount: Int) {
        let bytes = Array(bytes)
        guard bytes.count == headByteCount, bytes.starts(with: magic) else { throw Garbage(reason: "no frame") }
        guard let kind = Kind(rawValue: bytes[4]), kind.rawValue >= Kind.hello.rawValue, bytes[5...7] == [0, 0, 0]
        else {
            throw Garbage(reason: "a frame of an unknown kind")
        }
        let byteCount = Int(number(bytes, at: 12))
        guard byteCount <= payloadByteCountMax else { throw Garbage(reason: "a frame of \(byteCount) bytes") }
        return (kind, number(bytes, at: 8), byteCount)
    }

    /// Asks for rows.
    static func predict(_ rows: [Float], rowCount: Int, call: UInt32) -> WorkerFrame {
        var payload: [UInt8] = []
        payload.reserveCapacity(8 + 4 * rows.count)
        append(UInt32(rowCount), to: &payload)
        append(UInt32(rows.count / rowCount), to: &payload)
        rows.withUnsafeBytes { payload.append(contentsOf: $0) }  // little-endian, as all processors that we run on
        return WorkerFrame(kind: .predict, call: call, payload: payload)
    }

    /// Reads the numbers of an answer.
    static func outputs(_ payload: [UInt8], rowCount: Int, outputCount: Int) throws(Garbage) -> [Float] {
        guard payload.count >= 8 else { throw Garbage(reason: "an answer of \(payload.count) bytes") }
        let (rows, width) = (Int(number(payload, at: 0)), Int(number(payload, at: 4)))
        guard rows == rowCount, width == outputCount, payload.count == 8 + 4 * rows * width else {
            throw Garbage(
                reason: "an answer of \(payload.count) bytes for \(rows) rows of \(width) outputs; \(rowCount) rows of "
                    + "\(outputCount) are expected")
        }
        return [Float](unsafeUninitializedCapacity: rows * width) { buffer, count in
            payload.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(buffer).copyMemory(from: UnsafeRawBufferPointer(rebasing: source[8...]))
            }
            count = rows * width
        }
    }

    private static func append(_ value: UInt32, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    static func number(_ bytes: [UInt8], at place: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
    }
}

/// What a worker says of the model that it has loaded.
struct WorkerHello: Sendable, Codable, Equatable {
    let features: [String]
    let featureCount: Int
    /// Positions of columns that the model wants as text.
    let texts: [Int]
    let outputCount: Int
    /// What the outputs are: `regression`, `binary:probability`, `multi:probability`, `multi:regression`.
    let objective: String
    /// What its environment has otherwise than the model was logged with, a line for each.
    let differences: [String]

    /// What the outputs are, for the platform.
    var output: ModelOutput {
        if outputCount > 1 { return objective == "multi:probability" ? .classProbabilities : .values }
        return objective.hasPrefix("binary:") ? .probability : .value
    }

    private static let differenceCountMax = 32
    private static let featureCountMax = 1 << 16
    private static let outputCountMax = 1 << 12

    /// Reads the payload of a hello.
    /// - Throws: the model's own error for a model that does not load.
    init(_ payload: [UInt8]) throws(WorkerEnd) {
        func fault() -> WorkerEnd { .garbage("a greeting that makes no sense") }
        guard
            let json = try? JSONValue.parse(payload[...], limits: JSONLimits(byteCountMax: 16 << 20, depthMax: 4))
        else { throw fault() }
        if let error = json["error"]?.stringValue { throw .refused(printable(error)) }
        func texts(_ key: String) -> [String]? {
            json[key]?.arrayValue.flatMap { list in
                let texts = list.compactMap(\.stringValue)
                return texts.count == list.count ? texts : nil
            }
        }
        guard let names = texts("features"), let count = json["feature_count"]?.integerValue,
            1...Int64(Self.featureCountMax) ~= count, names.isEmpty || names.count == Int(count),
            let outputs = json["outputs"]?.integerValue, 1...Int64(Self.outputCountMax) ~= outputs,
            let objective = json["objective"]?.stringValue, objective.utf8.count <= 64,
            let places = json["texts"]?.arrayValue?.compactMap(\.integerValue), places.allSatisfy({ 0..<count ~= $0 }),
            let differences = json["differences"] == nil ? [] : texts("differences"),
            differences.count <= Self.differenceCountMax
        else { throw fault() }
        features = names
        featureCount = Int(count)
        self.texts = places.map(Int.init)
        outputCount = Int(outputs)
        self.objective = printable(objective)
        self.differences = differences.map(printable)
    }
}

/// Why a worker did not answer a call.
enum WorkerEnd: Error, Equatable {
    /// The model refused the rows; the worker goes on.
    case refused(String)
    /// The model ran out of memory.
    case memory(String)
    /// The process ended.
    case died(String)
    /// It sent something that is no answer.
    case garbage(String)
    /// It took longer than a call may take.
    case hung(String)

    /// The word of metrics.
    var word: String {
        switch self {
        case .refused: "refused"
        case .memory: "memory"
        case .died: "died"
        case .garbage: "garbage"
        case .hung: "hung"
        }
    }

    /// For people.
    var message: String {
        switch self {
        case .refused(let text), .memory(let text), .died(let text), .garbage(let text), .hung(let text): text
        }
    }
}
