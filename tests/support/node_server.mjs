// Fills a data directory with npm's @durable-streams/server, and prints what that server serves:
// a JSON object of bodies by path. Arguments: the directory, a file with an array of
// [method, path, headers, body], and the paths to read.
import { readFileSync } from "node:fs"
import { DurableStreamTestServer } from "@durable-streams/server"

const [dataDir, requests, ...paths] = process.argv.slice(2)
console.info = console.log = () => {}
const server = new DurableStreamTestServer({ port: 0, dataDir })
const base = await server.start()
for (const [method, path, headers, body] of JSON.parse(readFileSync(requests, "utf8"))) {
  const answer = await fetch(base + path, { method, headers, body })
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
  await answer.text()
  await new Promise((done) => setTimeout(done, 50)) // it answers before it can be found
}
const served = {}
for (const path of paths) {
  const answer = await fetch(`${base}${path}?offset=-1`)
  served[path] = [answer.status, answer.headers.get("content-type"), await answer.text()]
}
process.stdout.write(JSON.stringify({ base, served }) + "\n")
const stop = () => server.stop().then(() => process.exit())
if (process.env.STAY) process.stdin.on("end", stop).resume()
else await stop()
