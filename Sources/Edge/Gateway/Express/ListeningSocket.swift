import CEpoll
import Foundation
import Glibc
import PlatformCore

/// A socket that listens for connections of HTTP.
struct ListeningSocket: Sendable {
    let descriptor: Int32
    /// The port, also where the system chose it.
    let port: Int

    /// Connections have descriptors below it.
    let descriptorMax: Int32

    private static let backlog: Int32 = 1024
    /// Open files that are asked for, as far as the system allows.
    private static let openFileCount = 65_536

    /// Listens at the first address of a host.
    ///
    /// - Parameter port: 0 lets the system choose.
    /// - Throws: `unavailable` if the port is taken or the address is not of this machine, `invalidInput` if no address
    ///   has the host's name.
    init(host: String, port: Int) throws(PlatformError) {
        let place = "\(host):\(port)"
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &found) == 0, let address = found else {
            throw PlatformError(.invalidInput, place, "no address has this name; choose another with --host")
        }
        defer { freeaddrinfo(found) }
        func failure(_ code: Int32) -> PlatformError {
            PlatformError(
                .unavailable, place,
                code == EADDRINUSE
                    ? "the port is in use; stop the other program or choose another port with --port"
                    : "cannot listen there: \(String(cString: strerror(code)))")
        }
        let descriptor = bottega_socket(address.pointee.ai_family)
        guard descriptor >= 0 else { throw failure(errno) }
        var yes: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, size)
        // Connections have it from here; an answer is one write, so there is nothing to gather.
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, size)
        guard bind(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0,
            listen(descriptor, Self.backlog) == 0
        else {
            let code = errno
            close(descriptor)
            throw failure(code)
        }
        self.descriptor = descriptor
        descriptorMax = Self.descriptorMax()
        self.port = Self.port(of: descriptor) ?? port
    }

    /// Leaves an eighth of what may be open to everything else.
    private static func descriptorMax() -> Int32 {
        let count = Int32(clamping: bottega_open_file_limit(openFileCount))
        return count < 0 ? .max : count - min(1024, max(16, count / 8))
    }

    private static func port(of descriptor: Int32) -> Int? {
        var address = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &address) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) } == 0
                ? storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    UInt16(bigEndian: $0.pointee.sin_port)
                }
                : nil  // the port stands at the same place in both families
        }.map(Int.init)
    }
}
