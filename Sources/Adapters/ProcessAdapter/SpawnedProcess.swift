import Foundation
import RuntimePorts

/// Starts a process in a session of its own, with nothing inherited.
enum SpawnedProcess {
    struct Failure: Error {
        let number: Int32
    }

    private static let helpers = ["/usr/bin/", "/bin/"]

    /// The command behind the small programs that bind it to our life and limit it, then become it.
    ///
    /// A limit on core files is always set: one of a training job fills a disk.
    static func limited(executable: String, job: JobSpecification) -> [String] {
        func helper(_ name: String) -> String? { helpers.map { $0 + name }.first { access($0, X_OK) == 0 } }
        var command: [String] = []
        if let setpriv = helper("setpriv") { command += [setpriv, "--pdeathsig", "KILL", "--"] }
        if let prlimit = helper("prlimit") {
            command += [prlimit, "--core=0"]
            if job.memoryByteCountMax > 0 { command.append("--as=\(job.memoryByteCountMax)") }
            command.append("--")
        } else if job.memoryByteCountMax > 0 {
            command += ["/bin/sh", "-c", "ulimit -v \(job.memoryByteCountMax / 1024); exec \"$0\" \"$@\""]
        }
        return command + [executable] + job.command.dropFirst()
    }

    /// Starts `command[0]`; `output` becomes its standard output and error, `input` or else `/dev/null` its input.
    static func start(
        command: [String], environment: [String: String], workingDirectory: String, input: Int32? = nil, output: Int32
    ) -> Result<pid_t, Failure> {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)
        guard let changeFolder: ChangeFolder = libraryFunction("posix_spawn_file_actions_addchdir_np"),
            let closeFrom: CloseFrom = libraryFunction("posix_spawn_file_actions_addclosefrom_np")
        else { return .failure(Failure(number: ENOSYS)) }
        _ = changeFolder(&actions, workingDirectory)
        _ = closeFrom(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var every = sigset_t()
        sigemptyset(&none)
        sigfillset(&every)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &every)
        let newSession: Int32 = 0x80  // POSIX_SPAWN_SETSID
        posix_spawnattr_setflags(&attributes, Int16(newSession | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var pid: pid_t = 0
        let number = withCStrings(command) { arguments in
            withCStrings(environment.map { "\($0)=\($1)" }.sorted()) { variables in
                posix_spawn(&pid, command[0], &actions, &attributes, arguments, variables)
            }
        }
        return number == 0 ? .success(pid) : .failure(Failure(number: number))
    }

    private typealias ChangeFolder =
        @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, UnsafePointer<CChar>) -> Int32
    private typealias CloseFrom = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32

    /// A function of the C library whose declaration is hidden behind `_GNU_SOURCE`, which Swift does not set; glibc
    /// has both since 2.34.
    private static func libraryFunction<Function>(_ name: String, as type: Function.Type = Function.self) -> Function? {
        dlsym(nil, name).map { unsafeBitCast($0, to: Function.self) }
    }

    private static func withCStrings<Value>(
        _ texts: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Value
    ) -> Value {
        let copies = texts.map { strdup($0) }
        defer { copies.forEach { free($0) } }
        return body(copies + [nil])
    }
}
