import APIContract
import Datasets
import Definitions
import FeatureStore
import Foundation
import Governance
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import StoragePorts
import Synchronization
import TrainingJobs
import Workflows

/// Health, status, clock, definitions, operations, audit.
enum SystemRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("GET", "/livez") { _ in .text("ok\n") },
            Route("GET", "/readyz") { _ in
                if let failure = services.stream.failure { return .text("features: \(failure)\n", status: 503) }
                let unloaded = services.desk.unloadedVersions.filter { $0.use != .waitsForRollback }.map {
                    $0.isServedAsBefore
                        ? "degraded: the deployment \($0.deployment) is served as it was defined before; as it is defined now, "
                            + "version \($0.version) cannot be loaded, and it would not answer after a start\n"
                        : "degraded: version \($0.version) of the deployment \($0.deployment) is not loaded\n"
                }
                return .text("ok\n" + unloaded.joined())
            },
            Route("GET", "/metrics") { _ in
                .text(try await MetricsPage.text(services), type: "text/plain; version=0.0.4; charset=utf-8")
            },
            Route("GET", "/") { _ in .text(try await HomePage.html(services), type: "text/html; charset=utf-8") },
            Route("GET", "/api/v1/status") { _ in .json(try await status(services)) },
            Route("POST", "/api/v1/clock") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["now"])
                let moment = try body.requiredTime("now")
                guard let clock = services.manualClock else {
                    throw PlatformError(
                        .refused, "clock",
                        "the platform runs on the machine's clock; start it with --clock manual to set it")
                }
                guard moment >= clock.now() else {
                    throw PlatformError(.conflict, "clock", "it shows \(clock.now()) and does not go back to \(moment)")
                }
                let shown = clock.advance(to: moment)
                try services.rememberClock(shown)
                return .json(["now": .string(shown.description)])
            },
            Route("POST", "/api/v1/apply") { request in try await apply(request, services) },
            Route("GET", "/api/v1/definitions") { _ in
                let set = services.catalog.current
                return .json([
                    "revision": .integer(Int64(services.catalog.revision)),
                    "definitions": .object(set.meanings.mapValues { .string($0.hex) }),
                    "references": .object(set.references.mapValues { .array($0.map(JSONValue.string)) }),
                ])
            },
            Route("GET", "/api/v1/operations/{id}") { request in
                let id = request.parameters["id"] ?? ""
                guard let status = services.operations.status(id) else {
                    throw PlatformError(
                        .notFound, "operation/\(id.prefix(64))", "no such operation since this process started")
                }
                return .json(describe(status))
            },
            Route("GET", "/api/v1/audit") { request in
                let from = request.queryValue("from").flatMap { Int64($0) } ?? 1
                let subject = request.queryValue("subject")
                let entries =
                    if request.queryValue("last") != nil {
                        try await services.auditLog.newest(
                            try request.count("last", default: 100, most: 10_000), about: subject)
                    } else {
                        try await services.auditLog.entries(
                            from: from, countMax: try request.count("limit", default: 1000, most: 10_000),
                            about: subject)
                    }
                return .json([
                    "total": .integer(try await services.auditLog.count(about: subject)),
                    "entries": .array(
                        entries.map {
                            [
                                "position": .integer($0.position), "time": .string($0.time.description),
                                "actor": .string($0.record.actor), "action": .string($0.record.action),
                                "subject": .string($0.record.subject), "before": $0.record.before,
                                "after": $0.record.after,
                                "evidence": $0.record.evidence.map { .string($0.hex) } ?? .null,
                                "hash": .string($0.hash.hex),
                            ]
                        }),
                ])
            },
            Route("GET", "/api/v1/audit/export") { _ in
                let lines = ExportBuffer()
                try await services.auditLog.export { lines.append($0) }
                return APIResponse(headers: [("Content-Type", "application/x-ndjson")], body: .bytes(lines.bytes))
            },
            Route("POST", "/api/v1/audit/verify") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["head"])
                let head = try body["head"].map { value in
                    guard let head = ContentHash(hex: value.stringValue ?? "") else {
                        throw PlatformError(.invalidInput, "request body", "'head' must be a SHA-256")
                    }
                    return head
                }
                let result = try await services.auditLog.verify(expectedHead: head)
                let agreement = try await AuditAgreement.check(services.registry, against: services.auditLog)
                return .json([
                    "entries": .integer(Int64(result.entryCount)), "intact": .bool(result.isIntact),
                    "head": .string(result.head.hex),
                    "fault": result.fault.map { .string("\($0)") } ?? .null,
                    "compared": .integer(Int64(agreement.comparedCount)),
                    "not_compared": .integer(Int64(agreement.uncomparedCount)),
                    "evidence": .integer(Int64(agreement.evidenceCount)),
                    "differences": .array(
                        agreement.differences.map {
                            [
                                "where": .string($0.place), "what": .string($0.what),
                                "table": $0.table.map(JSONValue.string) ?? .null,
                                "chain": $0.chain.map(JSONValue.string) ?? .null,
                                "position": $0.position.map(JSONValue.integer) ?? .null,
                            ]
                        }),
                ])
            },
        ]
    }

    // MARK: Definitions

    private static func apply(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let body = try RequestBody(request)
        try body.checkKeys(["files", "dry_run", "expected_revision", "force", "confirmed"])
        let files = try body.definitionFiles()
        let isRehearsal = body["dry_run"]?.boolValue ?? false
        let expected = try body.integer("expected_revision", default: -1, in: 0...Int64(Int32.max))
        let isForced = body["force"]?.boolValue ?? false
        let isConfirmed = body["confirmed"]?.boolValue ?? false
        let seen = Mutex<BlastRadius?>(nil)
        let outcome = try await services.catalog.apply(
            files, isRehearsal: isRehearsal, actor: request.actor,
            expectedRevision: expected < 0 ? nil : Int(expected)
        ) { outcome in
            try await services.desk.checkFallbacks(outcome.after)
            let radius = try await blastRadius(of: outcome, services)
            seen.withLock { $0 = radius }
            // What a flag would allow is told by a rehearsal, not refused.
            if isRehearsal { return }
            if !isForced, !radius.refusals.isEmpty {
                throw PlatformError(
                    .refused, "definitions", radius.refusals.joined(separator: "; ") + "; 'apply --force' does it")
            }
            if !isConfirmed, !radius.removals.isEmpty {
                let list = radius.removals.map {
                    "Source/\($0.source): 'retention: \($0.retention)' takes \($0.rows) of \($0.of) rows out of its table, those before \($0.before)"
                }
                throw PlatformError(.refused, "definitions", list.joined(separator: "; ") + "; 'apply --yes' does it")
            }
        }
        let before = seen.withLock { $0 }
        let radius =
            if let before { before } else {
                try await blastRadius(of: outcome, services)
            }
        if !isRehearsal, !outcome.changes.isEmpty {
            await services.desk.refreshRoutes()
            services.changed()
        }
        return .json([
            "changes": try JSONValue.of(outcome.changes), "definitions": .integer(Int64(outcome.definitionCount)),
            "revision": .integer(Int64(outcome.revision)), "blast_radius": try JSONValue.of(radius),
            "backfilling": .array(
                services.stream.versions.filter { $0.state == .backfilling }.map { .string($0.versionName.text) }),
        ])
    }

    private static func blastRadius(of outcome: DefinitionCatalog.Outcome, _ services: PlatformServices) async throws
        -> BlastRadius
    {
        var radius = try await services.features.blastRadius(
            of: outcome.changes, from: outcome.before, to: outcome.after)
        radius.removals = try await services.maintenance.effects(from: outcome.before, to: outcome.after)
        for model in outcome.after.models.values.sorted(by: { $0.name < $1.name }) {
            guard let script = model.training.script, !FileManager.default.fileExists(atPath: script) else { continue }
            radius.warnings.append(
                "\(model.training.place): the command of Model '\(model.name)' runs \(script), which is not there; "
                    + "'bottega train' will fail")
        }
        for change in outcome.changes where change.identifier.hasPrefix("Deployment/") {
            guard let name = Name(change.identifier.dropFirst("Deployment/".count)),
                let after = outcome.after.deployments[name]
            else { continue }
            if let path = after.workers.environment, !FileManager.default.fileExists(atPath: path) {
                radius.warnings.append(
                    "\(change.identifier): 'workers: {environment: \(path)}' is not there on the server, so no worker can "
                        + "start")
            }
            if let before = outcome.before.deployments[name],
                before.stickyBy != after.stickyBy || before.rollout.salt != after.rollout.salt,
                let policy = try await services.registry.current(name)?.policy, policy.variants.count > 1
            {
                radius.warnings.append(
                    "\(change.identifier): its traffic is split, and another 'sticky_by' or 'salt' deals the versions anew: "
                        + "many callers get the other one from now on, and a running comparison mixes both")
            }
        }
        return radius
    }

    private static func describe(_ status: OperationRunner.Status) -> JSONValue {
        var members: [String: JSONValue] = [
            "state": .string(status.state.rawValue),
            "progress": [
                "done": .number(status.progress.done), "total": .number(status.progress.total),
                "unit": .string(status.progress.unit), "message": .string(status.progress.message),
            ],
        ]
        if let result = status.result { members["result"] = result }
        if let error = status.error {
            let known = ErrorTable.platformError(error)
            members["error"] = [
                "code": .string(known.code.rawValue), "subject": .string(known.subject),
                "message": .string(known.message),
                "status": .integer(Int64(ErrorTable.status(known.code))),
            ]
        }
        return .object(members)
    }

    // MARK: Status

    static func status(_ services: PlatformServices) async throws -> JSONValue {
        try await services.monitoring.refresh()
        let log = services.log
        let predictions = try await log.endOffset(PlatformTopic.predictions, partition: 0)
        let labels = try await log.endOffset(PlatformTopic.labels, partition: 0)
        let monitoring = try await log.endOffset(PlatformTopic.monitoring, partition: 0)
        let progress = await services.monitoring.progress()
        let joined = await services.monitoring.labels()
        let pending = services.predictor.log.pending
        let heard = services.lifecycle.monitoringOffset
        let computing = services.lifecycle.computingCount
        let isMonitored = progress.map { $0.predictions >= predictions && $0.labels >= labels } ?? false
        let (backfills, retentions) = (services.stream.backfillCount, services.maintenance.retentionCount)
        let isIdle =
            pending == 0 && computing == 0 && backfills == 0 && retentions == 0 && services.operations.runningCount == 0
            && heard >= monitoring
            && (isMonitored || !services.expectsMonitor)
        let rolling = services.lifecycle.rollouts.values.filter { !$0.phase.isOver }
        return [
            "now": .string(services.clock.now().description),
            "clock": services.manualClock == nil ? "system" : "manual",
            "idle": .bool(isIdle), "pending_predictions": .integer(Int64(pending)),
            "predictions": .integer(Int64(predictions)), "labels": .integer(Int64(labels)),
            "labels_waiting": joined.map { .integer($0.waiting) } ?? .null,
            "labels_unmatched": joined.map { .integer($0.unmatched) } ?? .null,
            "consumers": [
                "monitor": .object([
                    "predictions": progress.map { .integer(Int64($0.predictions)) } ?? .null,
                    "labels": progress.map { .integer(Int64($0.labels)) } ?? .null,
                    "heartbeat_seconds_ago": progress.map { .integer($0.age.components.seconds) } ?? .null,
                ]), "lifecycle": ["monitoring": .integer(Int64(heard)), "of": .integer(Int64(monitoring))],
            ],
            "backfills_running": .integer(Int64(backfills)), "retentions_running": .integer(Int64(retentions)),
            "operations_running": .integer(Int64(services.operations.runningCount)),
            "workflows_active": .integer(Int64(computing)), "rollouts_active": .integer(Int64(rolling.count)),
            "unloaded_versions": .array(services.desk.unloadedVersions.map(ModelRoutes.describe)),
            "definitions_revision": .integer(Int64(services.catalog.revision)),
            "uptime_seconds": .integer((ContinuousClock.now - services.startedAt).components.seconds),
        ]
    }
}

/// Collects an export; the callback that fills it runs on one task.
private final class ExportBuffer: Sendable {
    private let storage = Mutex<[UInt8]>([])
    var bytes: [UInt8] { storage.withLock { $0 } }
    func append(_ more: [UInt8]) { storage.withLock { $0 += more } }
}
