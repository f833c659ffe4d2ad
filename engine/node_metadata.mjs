// Prints the metadata of a file-backed store of @durable-streams/server: one line of JSON a stream.
// Arguments: the store's directory, a directory in which that package is installed. Only reads.
import { createRequire } from "node:module"
import { join, resolve } from "node:path"

const [directory, installed] = process.argv.slice(2)
const nearby = createRequire(join(resolve(installed), "anything.js"))
const { open } = createRequire(nearby.resolve("@durable-streams/server"))("lmdb")
const db = open({
  path: join(directory, "metadata.lmdb"),
  readOnly: true,
  compression: true, // these two as the server has them
  sharedStructuresKey: Symbol.for("structures"),
})
for (const { value } of db.getRange({ start: "stream:", end: "stream:\xff" })) {
  process.stdout.write(JSON.stringify(value) + "\n")
}
await db.close()
