#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import PlatformCore
import RuntimePorts

@testable import LinearModelAdapter
@testable import ONNXAdapter
@testable import ProcessAdapter
@testable import TreeModelAdapter

/// Model files, and what a model's process answers.
extension FuzzTarget {
    static let models: [FuzzTarget] = [xgboost, lightGBM, linear, onnx, workerFrame]

    private static let limits = ModelLimits(
        byteCountMax: 1 << 20, featureCountMax: 10_000, categorySetByteCountMax: 4 << 20)

    /// Loads; what loads also predicts and explains a few rows.
    private static func tryOut(_ runtime: some ModelRuntime, _ bytes: [UInt8]) {
        _ = runtime.recognizes(bytes, fileName: "model")
        guard let model = try? runtime.load(bytes, fileName: "model") else { return }
        let width = model.description.featureCount
        let samples: [Float] = [0, -1, 0.5, .nan, 1e30, 3, -.infinity]
        let rows = (0..<(3 * width)).map { samples[$0 % samples.count] }
        for count in [1, 3] { _ = try? model.predict(Array(rows.prefix(count * width)), rowCount: count) }
        if let explaining = try? model.explaining() {
            _ = try? explaining.explain(Array(rows.prefix(width)), rowCount: 1)
        }
        // Categories by the names in the file, also those that are cut at the wrong places.
        let values = [["x", "y\u{E9}", "z z"], ["0", "1", "20260101"], ["\u{4E2D}\u{6587}", "b"]]
        for texts in values {
            let read = Dictionary(uniqueKeysWithValues: (0..<min(width, 3)).map { ($0, texts) })
            guard let other = try? model.reading(categories: read) else { continue }
            _ = try? other.predict(Array(rows.prefix(width)), rowCount: 1)
        }
    }

    private static let xgboost = FuzzTarget(
        "xgboost", byteCountMax: 8192,
        words: [
            "learner", "gradient_booster", "gbtree", "dart", "gblinear", "model", "trees", "tree_info", "weight_drop",
            "left_children", "right_children", "split_indices", "split_conditions", "default_left", "categories",
            "categories_nodes", "categories_segments", "categories_sizes", "split_type", "base_score", "num_class",
            "num_feature", "num_nodes", "num_target", "objective", "reg:squarederror", "multi:softprob",
            "binary:logistic", "feature_names", "tree_param", "learner_model_param", "iteration_indptr", "version",
            "2147483647", "[$l#", "[$d#", "[$U#", "{L", "SL", "1e400", "cats", "enc", "offsets", "values",
        ],
        seeds: [
            smallForest(objective: "binary:logistic"), smallForest(objective: "reg:squarederror"),
            smallForest(
                objective: "reg:squarederror",
                categories: #"[{},{"offsets":[0,1,3,6],"values":[120,121,-61,-87,122,32]}]"#),
            smallForest(objective: "reg:squarederror", categories: #"[{},{"values":[3,7,20260101]}]"#),
        ]
    ) { bytes in tryOut(XGBoostRuntime(limits: limits), bytes) }

    private static func smallForest(objective: String, categories: String = "[]") -> [UInt8] {
        .text(
            #"{"learner":{"attributes":{},"feature_names":["a","b"],"feature_types":["float","c"],"gradient_booster":{"model":{"gbtree_model_param":{"num_parallel_tree":"1","num_trees":"2"},"cats":{"enc":"#
                + categories
                + #"},"iteration_indptr":[0,1,2],"tree_info":[0,0],"trees":["#
                + #"{"base_weights":[0,0.5,-0.5],"categories":[],"categories_nodes":[],"categories_segments":[],"categories_sizes":[],"default_left":[1,0,0],"id":0,"left_children":[1,-1,-1],"loss_changes":[1,0,0],"parents":[2147483647,0,0],"right_children":[2,-1,-1],"split_conditions":[0.5,0.25,-0.25],"split_indices":[0,0,0],"split_type":[0,0,0],"sum_hessian":[3,2,1],"tree_param":{"num_deleted":"0","num_feature":"2","num_nodes":"3","size_leaf_vector":"1"}},"#
                + #"{"base_weights":[0,0.5,-0.5],"categories":[1,3],"categories_nodes":[0],"categories_segments":[0],"categories_sizes":[2],"default_left":[0,0,0],"id":1,"left_children":[1,-1,-1],"loss_changes":[1,0,0],"parents":[2147483647,0,0],"right_children":[2,-1,-1],"split_conditions":[0,0.25,-0.25],"split_indices":[1,0,0],"split_type":[1,0,0],"sum_hessian":[3,2,1],"tree_param":{"num_deleted":"0","num_feature":"2","num_nodes":"3","size_leaf_vector":"1"}}"#
                + #"]},"name":"gbtree"},"learner_model_param":{"base_score":"5E-1","boost_from_average":"1","num_class":"0","num_feature":"2","num_target":"1"},"objective":{"name":""#
                + objective + #"","reg_loss_param":{"scale_pos_weight":"1"}}},"version":[2,1,0]}"#)
    }

    private static let lightGBM = FuzzTarget(
        "lightgbm",
        words: [
            "tree", "version=v4", "num_class=", "num_tree_per_iteration=", "max_feature_idx=",
            "objective=binary sigmoid:1",
            "feature_names=", "feature_infos=", "tree_sizes=", "Tree=0", "num_leaves=", "num_cat=", "split_feature=",
            "threshold=", "decision_type=", "left_child=", "right_child=", "leaf_value=", "cat_boundaries=",
            "cat_threshold=", "is_linear=", "shrinkage=", "end of trees", "average_output", "pandas_categorical:", "-1",
            #"[["x","y\u00e9","\ud83d\ude00"]]"#,
            "4294967295", "nan", "inf",
        ],
        seeds: [
            .text(
                """
                tree
                version=v4
                num_class=1
                num_tree_per_iteration=1
                label_index=0
                max_feature_idx=1
                objective=binary sigmoid:1
                feature_names=a b
                feature_infos=[0:1] 0:1:2:3
                tree_sizes=300 300

                Tree=0
                num_leaves=3
                num_cat=1
                split_feature=0 1
                split_gain=1 1
                threshold=0.5 0
                decision_type=2 1
                left_child=1 -1
                right_child=-3 -2
                leaf_value=0.1 -0.2 0.3
                leaf_weight=1 1 1
                leaf_count=1 1 1
                internal_value=0 0
                internal_weight=3 2
                internal_count=3 2
                cat_boundaries=0 1
                cat_threshold=10
                is_linear=0
                shrinkage=0.1


                Tree=1
                num_leaves=1
                num_cat=0
                split_feature=
                threshold=
                decision_type=
                left_child=
                right_child=
                leaf_value=0.5
                is_linear=0
                shrinkage=1


                end of trees

                feature_importances:
                a=1

                parameters:
                [boosting: gbdt]
                end of parameters

                pandas_categorical:null

                """)
        ]
    ) { bytes in tryOut(LightGBMRuntime(limits: limits), bytes) }

    private static let linear = FuzzTarget(
        "linear",
        words: [
            "format", "bottega-linear/1", "link", "features", "coefficients", "intercepts", "center", "scale", "fill",
            "classes", "softmax", "one-vs-rest", "exp", "identity", "logistic", "1e999", "null",
        ],
        seeds: [
            .text(
                #"{"format":"bottega-linear/1","link":"softmax","features":["a","b"],"coefficients":[[1,2],[-1,0.5]],"intercepts":[0,1],"center":[0,1],"scale":[1,2],"fill":[0,0],"classes":["x","y"]}"#
            ),
            .text(
                #"{"format":"bottega-linear/1","link":"logistic","features":["a"],"coefficients":[[1e300]],"intercepts":[0]}"#
            ),
        ]
    ) { bytes in tryOut(LinearModelRuntime(byteCountMax: 1 << 20, featureCountMax: 10_000), bytes) }

    private static let onnx = FuzzTarget(
        "onnx-outline", words: ["ai.onnx.ml", "Loop", "If", "Scan", "Constant", "external"],
        seeds: [
            hexadecimal(
                "0807 12026274 3a 28 0a 0e 0a0178 120179 2204 52656c75 12 01 67 5a 05 0a0178 1200 62 05 0a0179 1200 42020a00"
            )
        ]
    ) { bytes in
        _ = ONNXOutline.isModel(bytes)
        _ = try? ONNXOutline(bytes)
    }

    private static let workerFrame = FuzzTarget(
        "worker-frame",
        words: ["feature_count", "features", "outputs", "objective", "texts", "error", "9223372036854775807"],
        seeds: [
            WorkerFrame.predict([1, 2], rowCount: 1, call: 7).bytes,
            .text(#"{"features":["a"],"feature_count":1,"outputs":1,"objective":"values","texts":[0]}"#),
        ]
    ) { bytes in
        _ = try? WorkerFrame.head(bytes.prefix(WorkerFrame.headByteCount))
        _ = try? WorkerFrame.outputs(bytes, rowCount: 2, outputCount: 1)
        _ = try? WorkerHello(bytes)
    }
}

#endif
