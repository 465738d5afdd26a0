"""The extension of JupyterLab and Notebook 7, in a real browser on a real server."""
