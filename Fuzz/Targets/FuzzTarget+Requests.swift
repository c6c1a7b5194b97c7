#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import GRPCWire
import NIOCore
import PlatformCore

@testable import InferenceAPI
@testable import RemoteModelAdapter

/// What callers send.
extension FuzzTarget {
    static let requests: [FuzzTarget] = [
        json, inferenceJSON, inferenceMessage, grpcFrames, gzip, remoteAnswer,
    ]

    private static let jsonWords = [
        "{", "}", "[", "]", ",", ":", "\"", "true", "false", "null", "NaN", "Infinity", "-0", "1e999", "1e-999",
        "9223372036854775808", "-9223372036854775809", "0.1", "\\u0000", "\\ud83d\\ude00", "\\ud800",
    ]

    private static let json = FuzzTarget(
        "json", words: jsonWords,
        seeds: [.text(#"{"a":[1,-2.5e3,"x\u00e9\n",true,null,{}],"b":""}"#), .text("12345678901234567890")]
    ) { bytes in
        guard let value = try? JSONValue.parse(bytes) else { return }
        // What was written of it reads as the same and is written the same.
        let written = value.canonicalBytes
        let again = try? JSONValue.parse(written, limits: JSONLimits(byteCountMax: .max))
        precondition(again != nil && again?.canonicalBytes == written, "a value does not read as it was written")
    }

    private static let inferenceJSON = FuzzTarget(
        "inference-json",
        words: jsonWords + [
            "inputs", "outputs", "parameters", "binary_data_size", "binary_data", "shape", "datatype", "FP32", "BYTES",
            "INT64", "UINT8", "BOOL", "FP16", "FP64", "name", "data", "id", "classification", "shared_memory_region",
        ],
        seeds: [
            [0]
                + .text(
                    #"{"id":"1","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[1,2.5]]}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#
                ),
            [101]
                + .text(
                    #"{"inputs":[{"name":"x","shape":[2,1],"datatype":"INT64","parameters":{"binary_data_size":16}}]}   "#
                ) + [UInt8](repeating: 3, count: 16),
            [96]
                + .text(
                    #"{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}    "#
                )
                + [1, 0, 0, 0, 65],
        ]
    ) { bytes in
        // The first byte says how long the head is; 0 is a request without binary tensors.
        guard let first = bytes.first else { return }
        _ = try? InferenceBody.read(Array(bytes.dropFirst()), headerByteCount: first == 0 ? nil : Int(first))
    }

    private static let inferenceMessage = FuzzTarget(
        "inference-message", words: ["FP32", "BYTES", "INT64", "BOOL", "FP16", "binary_data_size"],
        seeds: [
            hexadecimal("0a01 6d 2a 19 0a01 78 12 04 46503332 1a 02 0102 2a 0a 3208 0000803f00000040"),
            hexadecimal("0a01 6d 2a 0d 0a01 78 12 04 46503332 1a 02 0102 3a 08 0000803f00000040"),
            hexadecimal("0a01 6d 2a 10 0a01 78 12 05 4259544553 1a 01 01 3a 05 0100000041 32 03 0a01 79"),
        ]
    ) { bytes in
        _ = try? InferenceMessages.request(bytes[...])
        var reader = ProtobufReader(bytes[...])
        while let field = try? reader.next() { _ = field }
    }

    private static let grpcFrames = FuzzTarget(
        "grpc-frames",
        seeds: [
            [1, 0, 0, 0, 0, 3, 1, 2, 3], [2, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0],
            [0x21, 1, 0, 0, 0, 23] + hexadecimal("1f8b0800000000000003 cb48cdc9c9070086a6103605000000"),
        ]
    ) { bytes in
        // The first byte says in what pieces the others arrive, and how they are packed.
        guard let first = bytes.first else { return }
        let encodings: [GRPCEncoding] = [.identity, .identity, .gzip, .deflate]
        var messages = GRPCMessages(encoding: encodings[Int(first >> 4) & 3])
        let step = max(1, Int(first & 15))
        var at = 1
        while at < bytes.count {
            messages.append(ByteBuffer(bytes: bytes[at..<min(bytes.count, at + step)]))
            at += step
            do { while try messages.next() != nil {} } catch { return }
        }
    }

    private static let gzip = FuzzTarget(
        "gzip", byteCountMax: 1024,
        seeds: [
            hexadecimal("1f8b0800000000000003 cb48cdc9c9070086a6103605000000"),
            hexadecimal("789ccb48cdc9c907000 62c0215"),
            hexadecimal("1f8b0808000000000003 6100 4b4c4a4e492400 1f000000"),
        ]
    ) { bytes in
        let limit = 1 << 16
        if let content = try? GzipReader.decompress(bytes, byteCountMax: limit) { precondition(content.count <= limit) }
        if let content = try? GzipReader.decompressZlib(bytes, byteCountMax: limit) {
            precondition(content.count <= limit)
        }
    }

    private static let remoteAnswer = FuzzTarget(
        "remote-answer", words: jsonWords + ["outputs", "shape", "datatype", "FP32", "data", "binary_data_size"],
        seeds: [
            [0] + .text(#"{"outputs":[{"name":"y","shape":[2,1],"datatype":"FP32","data":[1,2]}]}"#),
            [97]
                + .text(
                    #"{"outputs":[{"name":"y","shape":[2,1],"datatype":"FP32","parameters":{"binary_data_size":8}}]}  "#
                )
                + [UInt8](repeating: 1, count: 8),
        ]
    ) { bytes in
        guard let first = bytes.first else { return }
        let head = first == 0 ? nil : Int(first)
        _ = try? RemoteTensors.outputs(Array(bytes.dropFirst()), headByteCount: head, rowCount: 2, output: "y")
    }
}

#endif
