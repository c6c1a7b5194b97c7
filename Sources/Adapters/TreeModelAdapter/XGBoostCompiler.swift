import RuntimePorts

/// Checks a model file for sense and makes the model that scores.
struct XGBoostCompiler {
    let limits: ModelLimits
    let range: XGBoostRuntime.TreeRange

    func compile(_ file: XGBoostFile, format: String) throws(ModelError) -> any LoadedModel {
        guard file.booster == "gbtree" || file.booster == "dart" else {
            if file.booster.isEmpty {
                throw ModelError(.malformedModel, "learner.gradient_booster: the model names no booster")
            }
            throw ModelError(
                .unsupportedModel,
                "learner.gradient_booster: booster '\(printable(file.booster))' is not supported; gbtree and dart are")
        }
        let objective = try Objective(named: file.objective)
        let featureCount = try featureCount(of: file)
        let treeCount = try usedTreeCount(of: file)
        let groups = try groupCount(of: file)
        let weights = try weights(of: file)
        let intercepts = try intercepts(of: file, objective: objective, groups: groups)
        let layout = RowLayout(featureCount: featureCount, categoricalFeatures: categoricalFeatures(of: file))
        let categoryNames = try categoryNames(of: file, featureCount: featureCount)
        let description = ModelDescription(
            format: format, featureNames: file.featureNames, featureCount: featureCount,
            categoricalFeatures: layout.categoricalFeatures, categories: categoryNames.compactMapValues(\.texts),
            outputCount: objective.output == .argumentOfMaximum ? 1 : groups,
            output: groups > 1 && objective.prediction == .value && objective.output != .argumentOfMaximum
                ? .values : objective.prediction,
            marginScale: objective.marginScale(named: file.objective), objective: file.objective, treeCount: treeCount)

        func compiled<Node: FlatNode>(
            of _: Node.Type
        ) throws(ModelError) -> (walk: ForestWalk<Node, SingleLeaves>, explanation: ForestExplanation)? {
            var forest = FlatForest<Node>()
            var covers = NodeCovers()
            let compiler = TreeCompiler(layout: layout, limits: limits)
            for index in file.trees.indices {  // trees past the used ones are checked too
                let fits = try compiler.append(
                    file.trees[index], index: index, group: Int(file.treeGroups[index]), weight: weights[index],
                    to: &forest, covers: &covers)
                guard fits else { return nil }
            }
            forest.trees.removeLast(forest.trees.count - treeCount)
            let explanation = ForestExplanation(
                forest, leaves: SingleLeaves.self, covers: covers, groups: groups, featureCount: featureCount,
                slotFeatures: layout.slotFeatures)
            return (ForestWalk(forest), explanation)
        }
        func model(_ forest: CompiledForest, _ explanation: ForestExplanation) -> XGBoostModel {
            XGBoostModel(
                description: description, categoryNames: categoryNames, layout: layout, forest: forest,
                intercepts: intercepts, transform: objective.output, explanation: explanation)
        }
        if let made = try compiled(of: PackedNode.self) { return model(.packed(made.walk), made.explanation) }
        if let made = try compiled(of: WideNode.self) { return model(.wide(made.walk), made.explanation) }
        throw ModelError(.tooLarge, "a tree of the model has more than 2³² nodes")
    }

    private func featureCount(of file: XGBoostFile) throws(ModelError) -> Int {
        guard let count = file.featureCount else {
            throw ModelError(.malformedModel, "learner.learner_model_param: num_feature is missing")
        }
        guard count <= limits.featureCountMax else {
            throw ModelError(.tooLarge, "the model has \(count) features, \(limits.featureCountMax) are accepted")
        }
        for (name, list) in [("feature_names", file.featureNames), ("feature_types", file.featureTypes)]
        where !list.isEmpty && list.count != count {
            throw ModelError(
                .malformedModel, "learner.\(name) holds \(list.count) entries, num_feature is \(count)")
        }
        return count
    }

    private func categoryNames(
        of file: XGBoostFile, featureCount: Int
    ) throws(ModelError) -> [Int: CategoryNames] {
        guard file.categoryNames.count <= featureCount else {
            throw ModelError(
                .malformedModel,
                "cats names categories of \(file.categoryNames.count) features, the model has \(featureCount)")
        }
        var names: [Int: CategoryNames] = [:]
        for (feature, known) in file.categoryNames.enumerated() { names[feature] = known }
        return names
    }

    private func usedTreeCount(of file: XGBoostFile) throws(ModelError) -> Int {
        let count = file.trees.count
        if let stated = file.statedTreeCount, stated != count {
            throw ModelError(
                .malformedModel, "gbtree_model_param.num_trees promises \(stated) trees, the file holds \(count)")
        }
        guard file.treeGroups.count == count else {
            throw ModelError(.malformedModel, "tree_info holds \(file.treeGroups.count) values for \(count) trees")
        }
        guard range == .upToBestIteration || (range == .asSaved && file.isOfWrapper), let best = file.bestIteration,
            best >= 0, best < count
        else { return count }
        if file.iterationStarts.isEmpty {  // files older than XGBoost 2.0
            let (perIteration, overflow) = max(1, file.classCount, file.targetCount)
                .multipliedReportingOverflow(by: max(1, file.parallelTreeCount))
            let (used, overflowToo) = perIteration.multipliedReportingOverflow(by: best + 1)
            return overflow || overflowToo ? count : min(used, count)
        }
        guard best + 1 < file.iterationStarts.count else { return count }
        let used = Int(file.iterationStarts[best + 1])
        guard used >= 0, used <= count else {
            throw ModelError(.malformedModel, "iteration_indptr[\(best + 1)] is \(used), the file holds \(count) trees")
        }
        return used
    }

    private func groupCount(of file: XGBoostFile) throws(ModelError) -> Int {
        let groups = max(1, file.classCount, file.targetCount)
        // Each round adds a tree for each output, so a header cannot promise more outputs than there are trees.
        guard groups <= max(file.trees.count, 4096) else {
            throw ModelError(
                .malformedModel,
                "learner_model_param promises \(groups) outputs, the file holds \(file.trees.count) trees")
        }
        for (index, group) in file.treeGroups.enumerated() where group < 0 || group >= groups {
            throw ModelError(
                .malformedModel, "tree_info[\(index)] is output \(group), the model has \(groups)")
        }
        return groups
    }

    private func weights(of file: XGBoostFile) throws(ModelError) -> [Float] {
        guard file.booster == "dart" else { return [Float](repeating: 1, count: file.trees.count) }
        guard file.treeWeights.count == file.trees.count else {
            throw ModelError(
                .malformedModel, "weight_drop holds \(file.treeWeights.count) values for \(file.trees.count) trees")
        }
        return file.treeWeights
    }

    /// One margin for each output from `base_score`: `5E-1` before XGBoost 3.1, a list such as `[5E-1,2E-1]` since.
    private func intercepts(
        of file: XGBoostFile, objective: Objective, groups: Int
    ) throws(ModelError) -> [Float] {
        func failure(_ what: String) -> ModelError {
            ModelError(.malformedModel, "learner_model_param.base_score '\(printable(file.baseScore))': \(what)")
        }
        var text = file.baseScore[...]
        if text.first == "[", text.last == "]", text.count >= 2 { text = text.dropFirst().dropLast() }
        var margins: [Float] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let trimmed = part.drop { $0 == " " }
            guard let score = NumberText.float(trimmed) else { throw failure("not a number or a list of numbers") }
            let margin = objective.margin(ofBaseScore: score)
            guard margin.isFinite else { throw failure("outside the range of \(file.objective)") }
            margins.append(margin)
        }
        if margins.count == 1 { return [Float](repeating: margins[0], count: groups) }
        guard margins.count == groups else { throw failure("\(margins.count) values for \(groups) outputs") }
        return margins
    }

    /// Features that are declared categorical or have a categorical split, in order.
    private func categoricalFeatures(of file: XGBoostFile) -> [Int] {
        var found = Set(file.featureTypes.indices.filter { file.featureTypes[$0] == "c" })
        for tree in file.trees where tree.splitTypes.contains(where: { $0 != 0 }) {
            for (type, feature) in zip(tree.splitTypes, tree.splitFeatures) where type != 0 {
                if feature >= 0, Int(feature) < file.featureCount ?? 0 { found.insert(Int(feature)) }
            }
        }
        return found.sorted()
    }
}
