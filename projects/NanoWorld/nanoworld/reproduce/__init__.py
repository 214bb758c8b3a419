import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparison": ["compare_predictions"],
        "report": ["Report"],
        "runs": ["Runs"],
        "tables": ["TABLES", "Claim", "Row", "RowKind", "Table"],
    },
)
