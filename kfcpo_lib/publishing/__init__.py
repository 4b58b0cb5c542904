"""The course outside JupyterLab: a static site and slides that need no network and no server.

Cells are rendered by nbconvert, formulas as MathML, which browsers set by themselves. Nothing on a
page points to another machine.
"""
