import Definitions
import ModelServing

extension HotRoutes {
    /// Answers a prediction in whichever form it was asked for; `nil` for a target that is none.
    ///
    /// - Parameter whole: the request's bytes, its body to the end.
    func predict(
        _ target: Target, _ request: WireRequest, _ whole: UnsafeRawBufferPointer, pressure: Int,
        scratch: PredictionScratch
    ) -> Predictor.Answer? {
        let body = UnsafeRawBufferPointer(rebasing: whole[request.headByteCount...])
        switch target {
        case .model(let model):
            return predictor.answer(
                model: model, body: body, terms: Self.terms(request, whole), pressure: pressure, scratch: scratch)
        case .predictions(let route, let name):
            let head = UnsafeRawBufferPointer(rebasing: whole[..<(request.headByteCount - 2)])
            return route.handler(
                PredictionRoute.Call(
                    name: name, terms: Self.terms(request, whole), pressure: pressure, body: body, head: head),
                scratch)
        case .route: return nil
        }
    }

    /// What the sender says beside the question.
    private static func terms(_ request: WireRequest, _ bytes: UnsafeRawBufferPointer) -> RequestTerms {
        var terms = RequestTerms()
        if let caller = request.caller {
            terms.caller = String(String(decoding: bytes[caller], as: UTF8.self).prefix(64))
        }
        if request.timeout != nil || request.priority != nil {
            terms.read(timeout: request.timeout.map { bytes[$0] }, priority: request.priority.map { bytes[$0] })
        }
        return terms
    }

    /// When an answer may go out.
    enum Delivery {
        /// At once; the answer itself, unless something is said in its place.
        case now(instead: Predictor.Answer?)
        /// When the log calls back, or its deadline is over.
        case onceDurable
        /// The log's queue is full, and the policy is to wait rather than to lose a record: to be tried again.
        case later
    }

    /// Hands an answer's records to the prediction log, as the deployment's policy wants it.
    ///
    /// - Parameter onDurable: makes what the log is to call; asked where that is waited for.
    func deliver(_ answer: Predictor.Answer, onDurable: () -> @Sendable () -> Void) -> Delivery {
        let log = predictor.log
        if answer.entries.isEmpty { return .now(instead: nil) }
        if answer.logPolicy == .durable {
            var entries = answer.entries
            entries[entries.count - 1].onDurable = onDurable()
            if log.offer(entries) { return .onceDurable }
        } else if log.offer(answer.entries) {
            return .now(instead: nil)
        }
        if answer.logPolicy == .shed || log.isClosed {
            log.countShed(answer.entries.count)
            return .now(instead: nil)
        }
        return predictor.refusalOfLate(answer).map(Delivery.now(instead:)) ?? .later
    }
}
