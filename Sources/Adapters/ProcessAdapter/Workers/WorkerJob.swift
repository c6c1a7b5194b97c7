import Foundation
import RuntimePorts
import Synchronization

/// What is asked of a worker.
enum WorkerQuestion: Sendable {
    case rows([Float], count: Int)
    /// Resident bytes.
    case memory
}

/// What a worker answered.
enum WorkerOutcome: Sendable {
    case outputs([Float])
    case byteCount(Int)
}

/// One call on its way to a worker.
final class WorkerJob: Sendable {
    let question: WorkerQuestion
    let layout: WorkerLayout?
    let arrival = ContinuousClock.now
    let answer = OneAnswer<Result<WorkerOutcome, ModelError>>()
    private let attempts = Atomic(0)

    /// A call that is answered with a failure at `deadline`.
    init(_ question: WorkerQuestion, layout: WorkerLayout?, deadline: ContinuousClock.Instant) {
        self.question = question
        self.layout = layout
        answer.give(.failure(ModelError(.deadlineExceeded, "there was no answer in time")), at: deadline)
    }

    /// Counts a failed attempt; how many there were with it.
    func countAttempt() -> Int { attempts.add(1, ordering: .relaxed).newValue }
}

/// What happened to the workers of a model since the server's start, whichever pools they were in.
final class WorkerLedger: Sendable {
    private let state = Mutex<(outcomes: [String: Int], outputByteCount: Int)>(([:], 0))

    /// Calls, starts and ends of workers by what became of them.
    var outcomes: [String: Int] { state.withLock { $0.outcomes } }
    /// Bytes that workers printed.
    var outputByteCount: Int { state.withLock { $0.outputByteCount } }

    func add(_ word: String) { state.withLock { $0.outcomes[word, default: 0] += 1 } }
    func addOutput(_ byteCount: Int) {
        if byteCount > 0 { state.withLock { $0.outputByteCount += byteCount } }
    }
}

/// How a pool is now.
struct WorkerStatus: Sendable {
    var starting = 0
    var idle = 0
    var busy = 0
    var queued = 0
    var breakerIsOpen = false
}

/// How the workers of one model are run.
struct WorkerConfiguration: Sendable {
    /// The model's name, for people.
    let model: String
    let interpreter: String
    /// Path of the worker program.
    let program: String
    /// Folder with the model's files.
    let modelFolder: String
    /// Folder that a worker may write to.
    let workingFolder: String
    let workerCount: ClosedRange<Int>
    let memoryByteCountMax: Int
    /// Time for a call.
    let timeout: Duration
    /// Time to load the model.
    let startTime: Duration

    /// Nothing of the server's environment, which may hold secrets; libraries compute with one thread, as there are as many
    /// workers as wanted.
    var environment: [String: String] {
        var environment = [
            "PATH": "\((interpreter as NSString).deletingLastPathComponent):/usr/bin:/bin", "HOME": workingFolder,
            "TMPDIR": workingFolder, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC",
            "PYTHONDONTWRITEBYTECODE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
            "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_HOME": workingFolder, "MPLCONFIGDIR": workingFolder,
        ]
        for name in ["OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB"] { environment["\(name)_NUM_THREADS"] = "1" }
        return environment
    }

    func command() -> [String] {
        let options = "{\"folder\":\(quoted(modelFolder)),\"memory\":\(memoryByteCountMax),\"parent\":\(getpid())}"
        return [interpreter, "-I", "-u", program, options]
    }

    private func quoted(_ text: String) -> String {
        let escaped = text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        return "\"\(escaped)\""
    }
}
