import ArgumentParser
import DuckDBAdapter
import Foundation
import Logging
import ONNXAdapter
import PlatformCore
import RuntimePorts
import SparkAdapter
import StoragePorts

/// Tries everything the configuration names and says in one line each what is wrong with it.
struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Try every configured part: data directory, port, DuckDB, Spark if configured, Python. Exit code 1 if one is unusable."
    )
    @OptionGroup var flags: SettingFlags
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
        do {
            let settings = try flags.settings()
            var checks: [(name: String, fault: String?, detail: String)] = []
            checks.append(directory(settings))
            checks.append(await duckDB(settings))
            if settings.offlineEngine == .spark { checks.append(await spark(settings)) }
            checks.append(python(settings))
            checks.append(onnx(settings))
            checks.append(port(settings))
            if json {
                let list = checks.map { check -> JSONValue in
                    [
                        "check": .string(check.name), "ok": .bool(check.fault == nil),
                        "detail": .string(check.fault ?? check.detail),
                    ]
                }
                print(JSONValue.array(list).prettyText)
            } else {
                for check in checks {
                    print("\(check.fault == nil ? "ok    " : "FAULT ") \(check.name): \(check.fault ?? check.detail)")
                }
            }
            if checks.contains(where: { $0.fault != nil }) { throw ExitCode(1) }
        } catch let code as ExitCode { throw code } catch { throw fail(error) }
    }

    private func directory(_ settings: Settings) -> (String, String?, String) {
        let path = settings.dataDirectory
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            let probe = "\(path)/.probe-\(getpid())"
            try Data("probe".utf8).write(to: URL(fileURLWithPath: probe))
            try FileManager.default.removeItem(atPath: probe)
            let free = try FileManager.default.attributesOfFileSystem(forPath: path)[.systemFreeSize] as? NSNumber
            return ("data directory", nil, "\(path), \((free?.int64Value ?? 0) >> 30) GiB free")
        } catch { return ("data directory", "\(path): \(error.localizedDescription)", "") }
    }

    private func duckDB(_ settings: Settings) async -> (String, String?, String) {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("bottega-doctor-\(getpid())").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let engine = DuckDBEngine(
            configuration: DuckDBConfiguration(executablePath: settings.duckDBPath, spillFolder: folder))
        do { return ("duckdb", nil, "\(try await engine.version()) at \(settings.duckDBPath)") } catch {
            return ("duckdb", error.message, "")
        }
    }

    private func spark(_ settings: Settings) async -> (String, String?, String) {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("bottega-doctor-spark-\(getpid())")
            .path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let engine = SparkEngine(configuration: SparkConfiguration(settings, folder: folder))
        defer { engine.stop() }
        do {
            let rows = try await engine.rows("SELECT 1 + 1 AS two")
            guard rows.first?["two"]?.integerValue == 2 else { return ("spark", "the session cannot add", "") }
            return (
                "spark", nil, "\(try await engine.version()) at \(settings.sparkMaster), by \(settings.sparkPython)"
            )
        } catch { return ("spark", "\(settings.sparkMaster) by \(settings.sparkPython): \(error)", "") }
    }

    private func python(_ settings: Settings) -> (String, String?, String) {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: settings.pythonPath)
        process.arguments = [
            "-c",
            "import sys, mlflow, xgboost; print(sys.version.split()[0], 'mlflow', mlflow.__version__, 'xgboost', xgboost.__version__)",
        ]
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        do {
            try process.run()
            let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            guard process.terminationStatus == 0 else {
                return (
                    "python",
                    "\(settings.pythonPath) lacks mlflow or xgboost; training scripts that use them will fail", ""
                )
            }
            return (
                "python", nil, output.trimmingCharacters(in: .whitespacesAndNewlines) + " at \(settings.pythonPath)"
            )
        } catch { return ("python", "\(settings.pythonPath): \(error.localizedDescription); set python.path", "") }
    }

    /// ONNX Runtime is optional: only a path that was given and is wrong is a fault.
    private func onnx(_ settings: Settings) -> (String, String?, String) {
        let runtime = ONNXRuntime(configuration: ONNXConfiguration(libraryPath: settings.onnxLibraryPath))
        do {
            return ("onnx", nil, "\(try runtime.libraryVersion()) at \(settings.onnxLibraryPath ?? "")")
        } catch {
            return settings.isONNXLibraryGiven ? ("onnx", error.message, "") : ("onnx", nil, error.message)
        }
    }

    private func port(_ settings: Settings) -> (String, String?, String) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(settings.port).bigEndian
        inet_pton(AF_INET, settings.host, &address.sin_addr)
        var reuse: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &reuse, socklen_t(MemoryLayout<Int32>.size))
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        let place = "\(settings.host):\(settings.port)"
        return result == 0
            ? ("port", nil, "\(place) is free") : ("port", "\(place): \(String(cString: strerror(errno)))", "")
    }
}
