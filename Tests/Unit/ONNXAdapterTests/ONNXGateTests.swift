import Foundation
import RuntimePorts
import Testing

@testable import ONNXAdapter

/// The trial of a model in a process of its own, with a shell in the place of the program.
struct ONNXGateTests {
    private static func outcome(_ script: String, folder: String) async -> ModelError? {
        let gate = ONNXGate(command: ["/bin/sh", "-c", script], folder: folder)
        do {
            try await gate.check([8, 8, 58, 0], fileName: "model.onnx", libraryVersion: "1.2.3")
            return nil
        } catch { return error }
    }

    private static func withFolder<Value>(_ body: (String) async throws -> Value) async rethrows -> Value {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("gate-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        return try await body(folder)
    }

    @Test func aCrashIsAnErrorInWords() async {
        await Self.withFolder { folder in
            let crash = await Self.outcome("kill -SEGV $$", folder: folder)
            #expect(crash?.code == .malformedModel)
            #expect(crash?.message.contains("signal 11") == true)
            let killed = await Self.outcome("kill -KILL $$", folder: folder)
            #expect(killed?.message.contains("signal 9") == true)
            let silent = await Self.outcome("exit 3", folder: folder)
            #expect(silent?.message.contains("exit code 3") == true)
            #expect((try? FileManager.default.contentsOfDirectory(atPath: folder)) == [])
        }
    }

    @Test func aRefusalOfTheTrialIsPassedOn() async {
        await Self.withFolder { folder in
            let error = await Self.outcome(#"echo '{"fault": "tooLarge", "message": "too much"}'"#, folder: folder)
            #expect(error == ModelError(.tooLarge, "too much"))
        }
    }

    @Test func whatPassedIsNotTriedAgain() async {
        await Self.withFolder { folder in
            #expect(await Self.outcome(#"test -f "$1" && echo '{"message": ""}'"#, folder: folder) == nil)
            #expect(await Self.outcome("kill -SEGV $$", folder: folder) == nil)
        }
    }

    @Test func aProgramThatIsMissingIsSaid() async {
        await Self.withFolder { folder in
            let gate = ONNXGate(command: ["/nowhere/bottega"], folder: folder)
            let error = await #expect(throws: ModelError.self) {
                try await gate.check([1], fileName: "m", libraryVersion: "1")
            }
            #expect(error?.code == .unavailable)
        }
    }
}
