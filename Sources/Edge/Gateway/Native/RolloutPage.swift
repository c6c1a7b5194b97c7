import Definitions
import Foundation
import ModelRegistry
import PlatformCore
import Workflows

/// Rollouts as pages: where each stands, what is looked at now, what was decided and why, and what people may say.
enum RolloutPage {
    private static let (width, height) = (720.0, 180.0)
    private static let (left, right, bottom, top) = (48.0, 12.0, 28.0, 10.0)

    private static func escape(_ text: String) -> String { HomePage.escape(text) }
    private static func time(_ moment: EventTime) -> String {
        String(moment.description.prefix(16)).replacing("T", with: " ")
    }
    private static func percent(_ share: Double) -> String {
        String(format: "%.4g %%", share * 100)
    }

    /// All of them, those under way first, then the newest.
    /// - Parameter policies: what is in front of traffic, by deployment.
    static func list(_ rollouts: [RolloutState], policies: [Name: PolicyRevision]) -> String {
        let sorted = rollouts.sorted {
            ($0.phase.isOver ? 1 : 0, -$0.startedAt.milliseconds) < (
                $1.phase.isOver ? 1 : 0, -$1.startedAt.milliseconds
            )
        }
        var body = "<header><h1>Rollouts</h1></header>"
        guard !sorted.isEmpty else {
            return EvaluationPage.page(
                "Rollouts",
                body + "<p>None yet. <code>bottega rollout start MODEL VERSION --reason …</code> starts one.</p>")
        }
        body += table(
            ["Model", "Challenger", "Champion", "Stands at", "Share", "Since", "Waits for"],
            sorted.map { state in
                [
                    link(state), "\(state.challenger)", "\(state.champion)", badge(state, policies[state.deployment]),
                    percent(share(state, policies[state.deployment])),
                    time(state.since), escape(state.halted ?? state.waitingFor ?? ""),
                ]
            }, wrapping: [6])
        return EvaluationPage.page("Rollouts", style + body)
    }

    private static func link(_ state: RolloutState) -> String {
        "<a href=\"/rollouts/\(escape(state.model.text))/\(state.challenger)\">\(escape(state.model.text))</a>"
    }

    /// What the challenger gets at this moment: people may publish other shares than the rollout's.
    private static func share(_ state: RolloutState, _ policy: PolicyRevision?) -> Double {
        policy?.share(of: state.challenger) ?? state.share
    }

    private static func badge(_ state: RolloutState, _ policy: PolicyRevision?) -> String {
        if let stillness = state.stillness {
            return "<span class=\"verdict worse\">\(state.phase.word), \(stillness)</span>"
        }
        if state.phase == .production, share(state, policy) == 0 {
            return "<span class=\"verdict unclear\">was in production</span>"
        }
        let kind =
            switch state.phase {
            case .production: "better"
            case .withdrawn: "worse"
            default: "unclear"
            }
        return "<span class=\"verdict \(kind)\">\(state.phase.word)</span>"
    }

    /// One of them.
    /// - Parameters:
    ///   - now: how it would be judged at this moment; `nil` where nothing is looked at any more.
    ///   - policy: what is in front of traffic.
    ///   - earlier: rollouts that the version had before, newest first.
    static func html(
        _ state: RolloutState, now: (decision: String, reason: String, checks: [RolloutCheck])?,
        policy: PolicyRevision?, earlier: [RolloutState]
    ) -> String {
        var body = """
            <header><p><a href="/rollouts">Rollouts</a></p>
            <h1>\(escape(state.model.text)) <span class="dim">version \(state.challenger) instead of \(state.champion)</span></h1>
            <p>\(badge(state, policy)) since \(time(state.since)), begun \(time(state.startedAt)); it gets \
            \(percent(share(state, policy))) of the traffic.</p></header>
            """
        if state.phase == .production, let policy, share(state, policy) == 0 {
            body += "<h2>Out of the traffic</h2><p class=\"why\">\(escape(policy.actor)) published revision "
            body += "\(policy.revision) at \(time(policy.time)): \(escape(policy.reason))</p>"
        }
        if let halted = state.halted, let stillness = state.stillness {
            body += "<h2>\(stillness.capitalized), until somebody resumes it</h2><p class=\"why\">\(escape(halted))</p>"
        } else if let now {
            body += "<h2>Now: \(escape(now.decision))</h2><p class=\"why\">\(escape(now.reason))</p>"
        }
        if let waiting = state.waitingFor, !state.phase.isOver {
            body += "<h2>Waits for people</h2><p class=\"why\">\(escape(waiting))</p>"
        }
        if let now { body += checks(now.checks) }
        body += traffic(policy) + buttons(state, policy) + chart(state)
        body += "<h2>Decisions</h2>" + decisions(state)
        for (place, before) in earlier.enumerated() {
            body += """
                <h2>\(place == 0 ? "Before" : "Before that")</h2><details><summary>from \(time(before.startedAt)): \
                \(before.phase.word) at \(time(before.since))</summary>\(decisions(before))</details>
                """
        }
        return EvaluationPage.page("\(state.model) version \(state.challenger), rollout", style + body)
    }

    private static func decisions(_ state: RolloutState) -> String {
        var text = ""
        for decided in state.decisions.reversed() {
            text += """
                <h3>\(escape(decided.phase)), \(percent(decided.share)) \
                <span class="dim">\(time(decided.time)), \(escape(decided.actor ?? "the controller"))</span></h3>
                <p class="why">\(escape(decided.reason))</p>
                """
            if let seen = decided.checks, !seen.isEmpty {
                text += "<details><summary>What was seen</summary>\(checks(seen))</details>"
            }
        }
        return text
    }

    private static let style = """
        <style>.why{color:var(--ink);max-width:60rem;overflow-wrap:anywhere}td.text{white-space:normal;min-width:12rem}output{color:var(--c4)}td.text small{margin:0}.buttons{margin-top:1rem}.share svg{max-width:46rem}summary{cursor:pointer;color:var(--dim)}
        details{margin:.3rem 0 .8rem}a{color:var(--c0)}button{font:inherit;color:var(--ink);background:transparent;border:1px solid var(--line);border-radius:.4rem;padding:.25rem .8rem;margin:.2rem .4rem .2rem 0;cursor:pointer}
        button:hover{border-color:var(--c0)}.steps{fill:none;stroke:var(--c1);stroke-width:2.5}.steps.area{fill:var(--c1);fill-opacity:.12;stroke:none}
        @media(max-width:40rem){td.text{min-width:8rem}.share svg{font-size:14px}}</style>
        """

    private static func table(_ header: [String], _ rows: [[String]], wrapping: Set<Int> = []) -> String {
        let head = header.map { "<th>\($0)</th>" }.joined()
        let lines = rows.map { row in
            "<tr>"
                + row.enumerated().map { "<td\(wrapping.contains($0) ? " class=\"text\"" : "")>\($1)</td>" }.joined()
                + "</tr>"
        }
        return
            "<div class=\"wide\"><table><thead><tr>\(head)</tr></thead><tbody>\(lines.joined())</tbody></table></div>"
    }

    private static func checks(_ checks: [RolloutCheck]) -> String {
        guard !checks.isEmpty else { return "" }
        return table(
            ["Check", "", "Seen"],
            checks.map { check in
                let kind =
                    switch check.verdict {
                    case .passed: "better"
                    case .failed: "worse"
                    case .waiting, .unknown: "unclear"
                    }
                let bound = unstated.contains(check.name) ? check.bound : nil
                return [
                    escape(check.name.replacing("_", with: " ")),
                    "<span class=\"verdict \(kind)\">\(escape(check.verdict.rawValue))</span>",
                    escape(check.detail)
                        + (bound.map { " <small>(at most \(EvaluationCharts.number($0)))</small>" } ?? ""),
                ]
            }, wrapping: [2])
    }

    /// Checks whose words do not say what they are held against.
    private static let unstated: Set<String> = ["error_rate", "prediction_psi", "disagreement", "mean_difference"]

    private static func traffic(_ policy: PolicyRevision?) -> String {
        guard let policy else { return "" }
        var rows = policy.policy.variants.map { ["\($0.version)", percent($0.share)] }
        for (place, version) in policy.policy.shadows.enumerated() {
            let share = policy.policy.shadowShares.map { $0[place] } ?? 1
            rows.append(["\(version)", "shadow of \(percent(share))"])
        }
        return "<h2>In front of traffic <span class=\"dim\">revision \(policy.revision)</span></h2>"
            + table(["Version", "Gets"], rows)
    }

    /// What people may say of this rollout and this policy; why is asked for first, as every change has a reason.
    private static func buttons(_ state: RolloutState, _ policy: PolicyRevision?) -> String {
        let base = "/api/v1/models/\(escape(state.model.text))/rollout"
        // What the page shows goes along: what has changed meanwhile is refused.
        var actions: [(name: String, path: String, key: String, value: Int)] = []
        if !state.phase.isOver {
            let words = state.halted == nil ? ["advance", "pause", "abort"] : ["resume", "abort"]
            actions = words.map { ($0, "\(base)/\($0)", "version", state.challenger) }
        }
        if let policy, policy.policy.variants.contains(where: { $0.version == state.challenger }) {
            actions.append(
                (
                    "roll back", "/api/v1/deployments/\(escape(state.deployment.text))/rollback", "expected_revision",
                    policy.revision
                ))
        }
        let buttons = actions.map { action in
            "<button data-path=\"\(action.path)\" data-key=\"\(action.key)\" data-value=\"\(action.value)\">\(action.name)</button>"
        }.joined()
        return """
            <p class="buttons">\(buttons)<output></output></p><script>
            for (const button of document.querySelectorAll('button[data-path]')) button.addEventListener('click', async () => {
              const reason = prompt(button.textContent + ': why?');
              if (!reason) return;
              document.body.dataset.asked = '';
              const answer = await fetch(button.dataset.path, {method: 'POST', headers: {'Content-Type': 'application/json'},
                body: JSON.stringify({reason, [button.dataset.key]: Number(button.dataset.value)})}).catch(() => null);
              if (answer?.ok) return location.reload();
              const said = await answer?.json().catch(() => null);
              document.querySelector('output').textContent =
                answer ? 'refused: ' + (said?.error?.message ?? answer.status) : 'the server cannot be reached';
            });
            \(state.phase.isOver ? "" : "setInterval(() => document.querySelector('details[open], body[data-asked]') || location.reload(), 10000);")
            </script>
            """
    }

    /// The challenger's share over time.
    private static func chart(_ state: RolloutState) -> String {
        let decisions = state.decisions
        guard decisions.count > 1, let first = decisions.first, let last = decisions.last else { return "" }
        let span = Double(max(1, last.time.milliseconds - first.time.milliseconds)) * (state.phase.isOver ? 1 : 1.08)
        func x(_ moment: EventTime) -> Double {
            left + Double(moment.milliseconds - first.time.milliseconds) / span * (width - left - right)
        }
        func y(_ share: Double) -> Double { height - bottom - min(1, max(0, share)) * (height - bottom - top) }
        func text(_ value: Double) -> String { String(format: "%.1f", value) }
        var svg =
            "<h2>Share of the traffic</h2><figure class=\"share\"><svg viewBox=\"0 0 \(Int(width)) \(Int(height))\" role=\"img\">"
        for share in [0, 0.25, 0.5, 0.75, 1] {
            svg += """
                <line class="grid" x1="\(text(left))" x2="\(text(width - right))" y1="\(text(y(share)))" y2="\(text(y(share)))"/>\
                <text class="tick" x="\(text(left - 6))" y="\(text(y(share) + 3.5))" text-anchor="end">\(Int(share * 100)) %</text>
                """
        }
        var points = "\(text(x(first.time))),\(text(y(first.share)))"
        for (before, decided) in zip(decisions, decisions.dropFirst()) {
            points +=
                " \(text(x(decided.time))),\(text(y(before.share))) \(text(x(decided.time))),\(text(y(decided.share)))"
        }
        let end = state.phase.isOver ? x(last.time) : width - right
        points += " \(text(end)),\(text(y(last.share)))"
        svg += """
            <polygon class="steps area" points="\(text(left)),\(text(y(0))) \(points) \(text(end)),\(text(y(0)))"/>\
            <polyline class="steps" points="\(points)"/>\
            <text class="axis" x="\(text(left))" y="\(text(height - 8))">\(time(first.time))</text>\
            <text class="axis" x="\(text(width - right))" y="\(text(height - 8))" text-anchor="end">\
            \(state.phase.isOver ? time(last.time) : "now")</text></svg></figure>
            """
        return svg
    }
}
