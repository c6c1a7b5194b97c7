public import Definitions
import Foundation
import Logging
public import ModelRegistry
import ModelServing
public import PlatformCore
import RuntimePorts
import Statistics
import StoragePorts
import Synchronization

// What a deployment's policy asks for in memory: published, put before traffic, tried again.
extension ModelDesk {
    /// Publishes a policy and puts it in front of traffic.
    ///
    /// - Parameter expectedRevision: the revision that the caller saw; `nil` to take any.
    /// - Throws: as the registry's `publish`: `conflict` if another revision came in between.
    public func publish(
        _ policy: DeploymentPolicy, for deployment: DeploymentDefinition, actor: String, reason: String,
        expectedRevision: Int? = nil
    ) async throws -> PolicyRevision {
        // Every version is in memory before anybody is routed to it, and stays there until it is.
        var held: [ServedVersion] = []
        defer { withExtendedLifetime(held) {} }
        let current = try await registry.current(deployment.name)?.policy
        let answering = (current?.variants.map(\.version) ?? []) + (current?.shadows ?? [])
        for number in policy.versions {
            let version = try await routed(deployment.model, number)
            held.append(version)
            // What is in front of traffic already may stay there while traffic is taken from it.
            _ = try await differences(
                of: version.loaded, subject: "model/\(deployment.model)/versions/\(number)",
                in: answering.contains(number) ? nil : deployment)
        }
        let revision = try await registry.publish(
            deployment.name, of: deployment.model, policy, actor: actor, reason: reason,
            expectedRevision: expectedRevision)
        try await route(revision)
        return revision
    }

    /// Goes back to the previous policy: a pointer swap, the versions are in memory.
    public func rollback(_ deployment: Name, actor: String, reason: String, expectedRevision: Int? = nil) async throws
        -> PolicyRevision
    {
        let revision = try await registry.rollback(
            deployment, actor: actor, reason: reason, expectedRevision: expectedRevision)
        // It is decided: a version that cannot be loaded has a stand-in and is tried again.
        try await route(revision, standIn: true)
        return revision
    }

    private func route(_ revision: PolicyRevision, standIn: Bool = false) async throws {
        guard let made = try await makeRoute(revision, standIn: standIn) else { return dismiss(revision) }
        put(made, revision)
    }

    /// A deployment that is not defined any more answers nobody.
    private func dismiss(_ revision: PolicyRevision) {
        unloaded.withLock { $0[revision.deployment] = nil }
        publish(nil, for: revision.model)
    }

    private func put(_ made: MadeRoute, _ revision: PolicyRevision) {
        // Two publications may come back from the registry in either order; the later one stays.
        if let known = routes.route(revision.model.text), known.definition.name == revision.deployment,
            known.revision > revision.revision
        {
            return
        }
        rehearsed[revision.deployment] = nil
        publish(made.route, for: revision.model)
        note(made.missing, revision.deployment)
        tellDifferences(revision)
    }

    /// Puts a route in front of traffic that may have stand-ins; one without them that serves the policy already stays.
    private func take(_ made: MadeRoute, _ revision: PolicyRevision) {
        let known = routes.route(revision.model.text)
        let isServing =
            known?.definition.name == revision.deployment && known?.revision == revision.revision
            && known?.versions.allSatisfy(\.isLoaded) == true
        if isServing, made.missing.contains(where: { $0.use == .answers || $0.use == .shadows }) {
            return note(Self.servedAsBefore(made.missing), revision.deployment)
        }
        put(made, revision)
    }

    /// Versions that a deployment lacks as it is defined now, while it answers as it was defined before.
    private static func servedAsBefore(_ missing: [UnloadedVersion]) -> [UnloadedVersion] {
        missing.map {
            var version = $0
            version.isServedAsBefore = version.use == .answers || version.use == .shadows
            return version
        }
    }

    /// Says in the log what versions in front of traffic find otherwise than they were logged with, once.
    private func tellDifferences(_ revision: PolicyRevision) {
        for (number, lines) in requirementDifferences(of: revision.model).sorted(by: { $0.key < $1.key }) {
            let key = "\(revision.model)/\(number)"
            guard toldDifferences[key] != lines else { continue }
            toldDifferences[key] = lines
            logger.warning(
                "a version's environment is not what it was logged with",
                metadata: [
                    "deployment": "\(revision.deployment)", "version": "\(number)",
                    "differences": "\(lines.joined(separator: "; "))",
                ])
        }
    }

    /// Replaces a route; versions that leave the traffic with it are let go.
    private func publish(_ route: DeploymentRoute?, for model: Name) {
        let before = routes.route(model.text)?.versions ?? []
        routes.publish(route, for: model)
        let kept = route?.versions ?? []
        recent.removeAll { version in
            before.contains { $0.residence === version.residence }
                && !kept.contains { $0.residence === version.residence }
        }
    }

    /// A route and what it lacks.
    struct MadeRoute {
        let route: DeploymentRoute
        let missing: [UnloadedVersion]
    }

    /// Versions that deployments need and that cannot be loaded now, by deployment.
    public nonisolated var unloadedVersions: [UnloadedVersion] {
        unloaded.withLock { $0.sorted { $0.key.text < $1.key.text }.flatMap(\.value) }
    }

    /// Remembers what could not be loaded; the log hears of what is new and of the end of it.
    private func note(_ missing: [UnloadedVersion], _ deployment: Name) {
        let before = unloaded.withLock { unloaded in
            defer { unloaded[deployment] = missing.isEmpty ? nil : missing }
            return unloaded[deployment] ?? []
        }
        for version in missing where !before.contains(version) {
            logger.error(
                version.isServedAsBefore
                    ? "a deployment is served as it was defined before: a version cannot be loaded as it is defined now"
                    : "a version cannot be loaded",
                metadata: [
                    "deployment": "\(deployment)", "version": "\(version.version)", "use": "\(version.use.rawValue)",
                    "error": "\(version.reason)",
                ])
        }
        if missing.isEmpty {
            tries[deployment] = nil
            if !before.isEmpty {
                logger.info("all versions of a deployment are loaded", metadata: ["deployment": "\(deployment)"])
            }
        } else if tries[deployment] == nil {
            tries[deployment] = (.now + Self.shortestPause, Self.shortestPause)
        }
    }

    private static let shortestPause = Duration.seconds(2)
    private static let longestPause = Duration.seconds(60)

    /// Tries again to load what could not be loaded, with pauses that grow to a minute; to be called now and then.
    func loadUnloaded() async {
        for deployment in unloaded.withLock({ Array($0.keys) }).sorted(by: { $0.text < $1.text }) {
            guard rehearsed[deployment] == nil, let due = tries[deployment], due.next <= .now else { continue }
            let pause = min(due.pause * 2, Self.longestPause)
            tries[deployment] = (.now + pause, pause)
            do {
                guard let revision = try await registry.current(deployment),
                    let made = try await makeRoute(revision, standIn: true)
                else {
                    note([], deployment)
                    continue
                }
                let before = unloaded.withLock { $0[deployment] ?? [] }
                let isBetter = before.contains { version in
                    !made.missing.contains { ($0.version, $0.use) == (version.version, version.use) }
                }
                if isBetter, rehearsed[deployment] == nil { take(made, revision) }
            } catch {
                logger.debug(
                    "a deployment cannot be served yet",
                    metadata: ["deployment": "\(deployment)", "error": "\(errorText(error))"])
            }
        }
    }

    /// A version for a route; one that fails in its place, and why, if it cannot be loaded and `standIn` is set.
    private func standing(_ model: Name, _ number: Int, _ standIn: Bool) async throws
        -> (version: ServedVersion, fault: (any Error)?)
    {
        let fault: any Error
        do { return (try await routed(model, number), nil) } catch {
            guard standIn else { throw error }
            fault = error
        }
        let version = try await registry.version(model, number)
        let binding = try binding(try await service(of: version))
        let stand = UnloadedModel(
            reason: "version \(number): \(errorText(fault))", featureCount: binding.inputCount,
            outputCount: max(1, version.candidate.signature?.outputs.count ?? 1))
        let served = try ServedVersion(
            model: model, number: number, artifact: version.candidate.artifact.hash, loaded: stand, binding: binding)
        return (served, fault)
    }

    /// The route of a policy with the versions that it lacks; `nil` if its deployment is not defined any more.
    ///
    /// - Parameter standIn: whether a variant or shadow that cannot be loaded gets a stand-in; else that is thrown.
    func makeRoute(_ revision: PolicyRevision, standIn: Bool = false) async throws
        -> MadeRoute?
    {
        guard let definition = definitions().deployments[revision.deployment] else { return nil }
        let policy = revision.policy
        var missing: [UnloadedVersion] = []
        func lacks(_ number: Int, _ use: UnloadedVersion.Use, _ error: any Error) {
            let version = UnloadedVersion(
                deployment: revision.deployment, model: revision.model, version: number, use: use,
                reason: errorText(error))
            if !missing.contains(version) { missing.append(version) }
        }
        var variants: [DeploymentRoute.Variant] = []
        for share in policy.variants {  // the first is the primary: a policy lists the champion first
            let (version, fault) = try await standing(revision.model, share.version, standIn)
            if let fault { lacks(share.version, .answers, fault) }
            variants.append(.init(version: version, share: share.share))
        }
        var shadows: [ServedVersion] = []
        for number in policy.shadows {
            let (version, fault) = try await standing(revision.model, number, standIn)
            if let fault { lacks(number, .shadows, fault) }
            shadows.append(version)
        }
        let fallback = await fallbackVersions(definition, revision)
        for (number, error) in fallback.missing { lacks(number, .standsIn, error) }
        let reserve = await reserve(revision)
        for (number, error) in reserve.missing { lacks(number, .waitsForRollback, error) }
        let route = DeploymentRoute(
            definition: definition, revision: revision.revision, variants: variants, shadows: shadows,
            slices: (policy.slices ?? []).map { ($0.version, $0.to) }, shadowShares: policy.shadowShares ?? [],
            fallbackVersions: fallback.versions, precomputed: try precomputed(definition), reserve: reserve.versions)
        return MadeRoute(route: route, missing: missing)
    }

    /// Puts a policy that is not published in front of traffic, for a drill; gives it up with `reroute`.
    func rehearse(_ revision: PolicyRevision) async throws {
        guard let route = try await makeRoute(revision)?.route else { return }
        rehearsed[revision.deployment] = rehearsed[revision.deployment] ?? routes.route(revision.model.text)
        publish(route, for: revision.model)
    }

    /// Puts the stored policy of a deployment in front of traffic again, after a rehearsal.
    func reroute(_ deployment: Name) async throws {
        if let revision = try await registry.current(deployment) { try await route(revision) }
    }

    /// What a rollback would go back to, in memory so that it needs no store then.
    private func reserve(_ revision: PolicyRevision) async
        -> (versions: [ServedVersion], missing: [(Int, any Error)])
    {
        var (versions, missing): ([ServedVersion], [(Int, any Error)]) = ([], [])
        let goal = try? await registry.rollbackGoal(revision.deployment)
        for share in goal?.policy.variants ?? [] {
            do { versions.append(try await routed(revision.model, share.version)) } catch {
                missing.append((share.version, error))
            }
        }
        return (versions, missing)
    }

    /// The versions of the fallback's steps; a step whose version is not there is left out.
    private func fallbackVersions(_ definition: DeploymentDefinition, _ revision: PolicyRevision) async
        -> (versions: [Int: ServedVersion], missing: [(Int, any Error)])
    {
        var (versions, missing): ([Int: ServedVersion], [(Int, any Error)]) = ([:], [])
        for (index, step) in definition.promise.fallback.enumerated() {
            let number: Int
            switch step {
            case .version(let wanted): number = wanted
            case .previousVersion:
                let history = try? await registry.history(definition.name)
                guard let previous = history.flatMap(PolicyRevision.previousVersion) else { continue }
                number = previous
            case .expression, .constant: continue
            }
            do { versions[index] = try await routed(revision.model, number) } catch {
                missing.append((number, error))
            }
        }
        return (versions, missing)
    }

    /// Reads the feature that holds predictions computed before.
    private func precomputed(_ definition: DeploymentDefinition) throws -> PrecomputedScores? {
        let set = definitions()
        guard let feature = definition.promise.precomputed, let view = set.featureViews[feature.view] else {
            return nil
        }
        let service = FeatureServiceDefinition(reading: feature, of: view)
        return PrecomputedScores(
            reader: try reader(ServiceVersion(service: service, definitions: set)), joinKeys: service.joinKeys)
    }

    /// Refuses deployments of which a fallback names a version that is not registered.
    public func checkFallbacks(_ definitions: DefinitionSet) async throws {
        for deployment in definitions.deployments.values.sorted(by: { $0.name.text < $1.name.text }) {
            for case .version(let number) in deployment.promise.fallback {
                do { _ = try await registry.version(deployment.model, number) } catch {
                    throw PlatformError(
                        .invalidInput, "Deployment/\(deployment.name)",
                        "its fallback names version \(number) of the model '\(deployment.model)', which is not registered"
                    )
                }
            }
        }
    }

    /// Puts every stored policy in front of traffic: at start, and after definitions changed.
    ///
    /// Where a version cannot be loaded the deployment's fallback answers (`unloadedVersions`) until it can (`loadUnloaded`). A
    /// deployment that serves already keeps the route that it has.
    public func refreshRoutes() async {
        do {
            for deployment in try await registry.deployments() { await refresh(deployment) }
        } catch { logger.error("deployments cannot be read", metadata: ["error": "\(errorText(error))"]) }
    }

    private func refresh(_ deployment: Name) async {
        do {
            guard let revision = try await registry.current(deployment) else { return }
            do {
                guard let made = try await makeRoute(revision, standIn: true) else { return dismiss(revision) }
                take(made, revision)
            } catch {
                // Whatever it is, it is tried again as a version is that cannot be loaded.
                let reason = "the deployment cannot be served as it is defined: \(errorText(error))"
                let missing = revision.policy.variants.map {
                    UnloadedVersion(
                        deployment: deployment, model: revision.model, version: $0.version, use: .answers,
                        reason: reason)
                }
                let isServing = routes.route(revision.model.text)?.definition.name == deployment
                note(isServing ? Self.servedAsBefore(missing) : missing, deployment)
            }
        } catch {
            logger.error(
                "a deployment cannot be served",
                metadata: ["deployment": "\(deployment)", "error": "\(errorText(error))"])
        }
    }
}
