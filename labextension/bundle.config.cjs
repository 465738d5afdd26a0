// Numbers in place of paths as the names of modules: the bundle is then the same wherever it is built.
module.exports = { optimization: { moduleIds: 'natural', chunkIds: 'natural' } };
