// One file, one worker: the suite's timing margins allow no second load beside it.
import { defineConfig } from "vitest/config"

export default defineConfig({
  cacheDir: "../node_modules/.vite",
  test: {
    include: ["suite.test.mjs"],
    fileParallelism: false,
    pool: "forks",
    retry: 0,
    testTimeout: 30_000, // one test makes 100,000 comparisons: seconds on a busy machine
  },
})
