// The official server suite against the server at CONFORMANCE_URL, without subscriptions.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({ baseUrl: process.env.CONFORMANCE_URL, subscriptions: false })
