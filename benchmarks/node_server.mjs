// usage: node node_server.mjs PORT DATA_DIR LONG_POLL_MS
// The Node reference server over files, as its package offers it. peers.py copies this file to
// where the package is installed, since imports are resolved from there.
import { mkdirSync } from "node:fs"
import { DurableStreamTestServer } from "@durable-streams/server"

const [port, dataDir, longPollTimeout] = process.argv.slice(2)
mkdirSync(dataDir, { recursive: true })
const server = new DurableStreamTestServer({
  host: "127.0.0.1",
  port: Number(port),
  dataDir,
  longPollTimeout: Number(longPollTimeout),
})
await server.start()
process.on("SIGTERM", async () => {
  await server.stop()
  process.exit(0)
})
