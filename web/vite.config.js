import { defineConfig } from 'vite'

// Three files with fixed names: the server has them in itself, and browsers ask by ETag whether they are still the same.
export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: { assetsInlineLimit: 0, modulePreload: false, target: 'es2022',
    rollupOptions: { output: { entryFileNames: 'app.js', assetFileNames: 'app[extname]', inlineDynamicImports: true } } },
  base: '/assets/',
})
